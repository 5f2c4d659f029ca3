"""How much the network's prediction depends on a unit's outputs, against exact Gauss-Newton diagonals."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.fitting.losses import UnitLoss
from ptqbench.fitting.sensitivity import Sensitivity
from ptqbench.fitting.unit_capture import UnitCapture
from ptqbench.fitting.unit_data import Samples
from ptqbench.plugin.component import NoOptions
from ptqbench.quant.plan import UnitPlan
from ptqbench.roles.loss import LossTerm
from ptqbench.roles.reconstruction import Phase
from ptqbench.sampling.calibrate import CalibrationSet, split

PHASE = Phase("rounding", frozenset({"rounding"}), True, "quantized")
N = 6


class Small(nn.Module):
    """Two curved layers, the second of which is read in place by what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.second(torch.tanh(self.first(x)))
        middle += x.mean(1, keepdim=True)
        return self.last(torch.tanh(middle))


@pytest.fixture(scope="module")
def small() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().double().requires_grad_(False)


def samples(network: Small, batch: int) -> Samples:
    x = torch.randn(N, 2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step, none = torch.arange(N), torch.zeros(N, dtype=torch.int64)
    calibration = CalibrationSet(x, none, step, torch.arange(N), none)
    parts = split(step, N, 0.0, 1, torch.Generator())
    return Samples(calibration, parts, lambda _, index: network(x[index]), batch, torch.device("cpu"))


def exact(network: Small, given: Samples) -> Mapping[str, tuple[Tensor, Tensor]]:
    """sum_i J_ij^2 and sum_i J_ij^4 of each sample, by the outputs of the first two layers."""

    def after_second(out: Tensor, x: Tensor) -> Tensor:
        return network.last(torch.tanh(out + x.mean(1, keepdim=True)))

    found: dict[str, list[Tensor]] = {"first": [], "second": []}
    for x in given.calibration.x.split(1):
        first = network.first(x)
        second = network.second(torch.tanh(first))
        by = {
            "first": (lambda out, x=x: after_second(network.second(torch.tanh(out)), x), first),
            "second": (lambda out, x=x: after_second(out, x), second),
        }
        for name, (function, at) in by.items():
            found[name].append(torch.autograd.functional.jacobian(function, at).reshape(-1, *at.shape[1:]))
    return {name: (torch.stack(js).pow(2).sum(1), torch.stack(js).pow(4).sum(1)) for name, js in found.items()}


def test_random_cotangents_give_the_gauss_newton_diagonal_within_sampling_error(small: Small) -> None:
    given, draws = samples(small, N), 1500
    modules = {"first": small.first, "second": small.second}
    found = Sensitivity(given, 0, draws).squares(modules, range(N))
    for name, (squares, fourth) in exact(small, given).items():
        (estimate,) = found[name]
        # The variance of (J^T v)_j^2 for random signs v.
        deviation = (2 * (squares.square() - fourth) / draws).sqrt()
        z = (estimate - squares) / deviation
        assert float(z.abs().max()) < 4.5
        assert 0.7 < float(z.square().mean()) < 1.4
        assert float((estimate / squares - 1).abs().mean()) < 0.05


def test_what_a_sample_gets_depends_neither_on_its_batch_nor_on_the_network_s_error(small: Small) -> None:
    modules = {"first": small.first}
    whole, parts = (Sensitivity(samples(small, size), 3).record(modules)["first"].tensors[0] for size in (N, 4))
    torch.testing.assert_close(whole, parts)
    assert float(whole.square().mean()) == pytest.approx(1, rel=1e-9)
    assert not torch.allclose(whole, Sensitivity(samples(small, N), 4).record(modules)["first"].tensors[0])


class Reads(LossTerm):
    reads_sensitivity = True

    def losses(self, outcome):
        return {}


def capture(cache, units=None) -> UnitCapture:
    ctx = context(cache, experiment())
    cell = cell_of(ctx, "qdiffusion")
    q, quantizer = quantized(ctx, cell)
    partitioner = cell.method.partitioner.create()
    chosen = units or partitioner.units(ctx.model.denoiser, ctx.probe)
    loss = UnitLoss([("x", Reads(NoOptions()))])
    return UnitCapture(quantizer.samples, q, ctx.model.denoiser, PHASE, loss, partitioner, chosen)


def test_every_unit_gets_one_of_the_shape_of_its_outputs(cache):
    made = capture(cache)
    for i, unit in enumerate(made.units[:3]):
        data = made.data(unit, i)
        assert [leaf.shape for leaf in data.sensitivity.tensors] == [leaf.shape for leaf in data.targets.tensors]
        assert float(data.sensitivity.tensors[0].square().mean()) == pytest.approx(1, rel=1e-4)


def test_synthetic_units_have_none(cache):
    made = capture(cache)
    unit = UnitPlan("temporal block", made.units[0].module, made.units[0].layers, synthetic=True)
    with pytest.raises(CellFailedError, match="synthetic") as caught:
        made.data(unit, 0)
    assert "another loss term" in caught.value.hint
