"""Fixtures: the shipped weights, loaded once, and a copy of them that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from ptqbench.roles.model import DiffusionModel
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.features import DigitsFeatures
from ptqbench_digits.source import DigitsSource


@pytest.fixture(scope="session")
def digits_model() -> DiffusionModel:
    return DigitsSource(DigitsOptions()).load(torch.device("cpu"))


@pytest.fixture(scope="session")
def digits_features() -> DigitsFeatures:
    features = DigitsFeatures(DigitsOptions())
    features.prepare(torch.device("cpu"))
    return features


@pytest.fixture
def weights_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.SHIPPED, tmp_path / "weights"))
