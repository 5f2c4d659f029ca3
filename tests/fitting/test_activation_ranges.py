"""Activation ranges of a cell do not depend on how many samples the network sees at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized


@pytest.mark.parametrize("ranges", ["{use='ema', update=8}", "{use='threshold', update=8}", "mse"])
@pytest.mark.parametrize("steps", ["1", "'each'"])
def test_two_batch_sizes_give_equal_ranges(cache: Path, ranges: str, steps: str) -> None:
    chosen = ranges if ranges.startswith("{") else f"'{ranges}'"
    found = []
    for batch in (16, 5):
        settings = (
            f"calibration.batch={batch}",
            "methods.qdiffusion.reconstruction=none",
            "methods.qdiffusion.weights.quantizer=nearest",
            f"methods.qdiffusion.activations={{quantizer='affine', range={chosen}, steps={steps}}}",
        )
        made = context(cache, experiment(*settings, methods=("qdiffusion",)))
        found.append(quantized(made, cell_of(made, "qdiffusion"))[0].export())
    first, second = found
    scales = [name for name in first if name.endswith("scale")]
    assert scales
    for name in scales:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-7)
