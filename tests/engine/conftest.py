"""One cache of the toy comparison for all tests of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from enginekit import context, experiment

from ptqbench.engine.context import RunContext


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def ctx(cache: Path) -> RunContext:
    """The toy comparison on diffusers' UNet, at W4A32 and W4A8."""
    return context(cache, experiment('sweep.bits=["W4A32", "W4A8"]'))
