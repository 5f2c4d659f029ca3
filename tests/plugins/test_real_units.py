"""Whether methods do their job on real units of the embedded model: error on held-out samples, after over before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unitkit import fitted

MIDDLE = "mid_block.resnets.0"
SHORT = {"step_iterations": 40, "step_rate": 0.01, "batch": 16}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("units")


@pytest.mark.parametrize(
    ("method", "bits", "least"),
    [
        ({"method": "q-diffusion", "sampler": {"points": 10}, "reconstruction": SHORT}, "W32A4", 0.7),
        ({"method": "tdq", "sampler": {"points": 10}, "reconstruction": SHORT}, "W32A4", 0.5),
        ({"method": "eda-dm", "reconstruction": {"iterations": 60, "batch": 16}}, "W4A32", 0.75),
    ],
    ids=["lsq", "tdq", "eda-dm at its own rate"],
)
def test_what_is_learned_helps_on_samples_that_were_not_seen(
    shared: Path, method: dict[str, Any], bits: str, least: float
) -> None:
    assert fitted(shared, MIDDLE, method, bits).ratio < least
