"""Gradients of the network's output error at a unit's outputs, as terms that weigh by sensitivity get them."""

from __future__ import annotations

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized

from ptqbench.errors import CellFailedError
from ptqbench.fitting.losses import UnitLoss
from ptqbench.fitting.unit_capture import UnitCapture
from ptqbench.plugin.component import NoOptions
from ptqbench.quant.plan import UnitPlan
from ptqbench.roles.loss import LossTerm
from ptqbench.roles.reconstruction import Phase

PHASE = Phase("rounding", frozenset({"rounding"}), True, "quantized")


class Reads(LossTerm):
    reads_sensitivity = True

    def losses(self, outcome):
        return {}


@pytest.fixture(scope="module")
def capture(cache):
    ctx = context(cache, experiment())
    cell = cell_of(ctx, "qdiffusion")
    q, quantizer = quantized(ctx, cell)
    partitioner = cell.method.partitioner.create()
    units = partitioner.units(ctx.model.denoiser, ctx.probe)
    return UnitCapture(
        quantizer.samples, q, ctx.model.denoiser, PHASE, UnitLoss([("x", Reads(NoOptions()))]), partitioner, units
    )


def error_at(capture, name, change, piece):
    """The network's squared output error when the unit's output is moved by `change`."""
    module = capture.q.module.get_submodule(name)
    handle = module.register_forward_hook(lambda _m, _a, out: out + change)
    try:
        with torch.no_grad():
            found = capture.samples.predict(capture.q, piece).double()
            full = capture.samples.predict(None, piece).double()
    finally:
        handle.remove()
    return float((found - full).square().sum())


def test_gradients_agree_with_finite_differences_after_the_last_quantized_block(capture):
    """At the last unit nothing is quantized downstream, so the error is smooth in its output."""
    unit = capture.units[-1]
    found = capture._sensitivity(unit).take(torch.arange(4), torch.device("cpu"))[0]
    piece = torch.arange(4)
    slopes = []
    for flat in (0, 17, 40):
        change = torch.zeros_like(found)
        change.view(-1)[flat] = 1e-2
        up, down = error_at(capture, unit.module, change, piece), error_at(capture, unit.module, -change, piece)
        slopes.append((up - down) / 2e-2)
    ratio = torch.tensor(slopes) / found.view(-1)[[0, 17, 40]]
    # The same factor everywhere: gradients are divided by their root mean square.
    torch.testing.assert_close(ratio, ratio.mean().expand(3), rtol=0.02, atol=0)


def test_root_mean_square_over_the_calibration_set_is_one(capture):
    for unit in (capture.units[0], capture.units[-2]):
        (leaf,) = capture._sensitivity(unit).tensors
        assert len(leaf) == len(capture.calib)
        assert float(leaf.double().square().mean()) == pytest.approx(1, rel=1e-4)


def test_synthetic_units_have_none(capture):
    unit = UnitPlan("temporal block", capture.units[0].module, capture.units[0].layers, synthetic=True)
    with pytest.raises(CellFailedError, match="synthetic") as caught:
        capture._sensitivity(unit)
    assert "another loss term" in caught.value.hint
