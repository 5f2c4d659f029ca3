"""The pass `finite-set`, and what grids of their own for each sampling step compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from quantkit import EIGHT_BITS, Factory, frozen, plan_for, quantizer
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import AttentionPlan, Plan, Probe
from ptqbench_tfmq import FiniteSetOptions, TemporalBlocksOptions
from ptqbench_tfmq.finite import FiniteSet
from ptqbench_tfmq.partition import TemporalBlocks

ProbedUNet = tuple[nn.Module, Tensor, Probe]
STEPS = 5
TIMESTEPS = torch.tensor([900, 700, 500, 300, 100])


@pytest.fixture
def probed(unet: ProbedUNet) -> ProbedUNet:
    """A UNet sampled in five steps."""
    net, x, probe = unet
    return net, x, replace(probe, steps=STEPS)


def temporal(net: nn.Module, probe: Probe) -> tuple[str, ...]:
    return TemporalBlocks(TemporalBlocksOptions()).units(net, probe)[0].layers


def test_the_temporal_block_gets_a_grid_for_each_step_and_nothing_else_does(probed: ProbedUNet) -> None:
    net, _, probe = probed
    before = plan_for(probe)
    after = FiniteSet(FiniteSetOptions()).apply(before, probe)
    inside = temporal(net, probe)
    for old, new in zip(before.layers, after.layers, strict=True):
        if new.name in inside:
            assert new == replace(old, activation=QuantSpec(8, steps=STEPS), why=("finite-set",))
        else:
            assert new == old


def test_released_scope_is_every_layer(probed: ProbedUNet) -> None:
    _, _, probe = probed
    plan = FiniteSet(FiniteSetOptions(compat=True)).apply(plan_for(probe), probe)
    assert {layer.activation for layer in plan.layers} == {QuantSpec(8, steps=STEPS)}
    assert all(layer.why == ("finite-set",) for layer in plan.layers)


def test_released_scope_includes_quantized_attentions_only(probed: ProbedUNet) -> None:
    _, _, probe = probed
    attentions = (
        AttentionPlan("one", EIGHT_BITS, EIGHT_BITS, None, QuantSpec(8, nonnegative=True)),
        AttentionPlan.uniform("two", None),
    )
    before = replace(plan_for(probe), attentions=attentions)
    after = FiniteSet(FiniteSetOptions(compat=True)).apply(before, probe)
    per_step = QuantSpec(8, steps=STEPS)
    why = tuple((site, "finite-set") for site in ("q", "k", "softmax"))
    assert after.attentions[0] == AttentionPlan("one", per_step, per_step, None, replace(per_step, nonnegative=True), why)
    assert after.attentions[1] == attentions[1]
    assert FiniteSet(FiniteSetOptions()).apply(before, probe).attentions == attentions


@pytest.mark.parametrize("compat", [False, True])
def test_full_precision_stays(probed: ProbedUNet, compat: bool) -> None:
    net, _, probe = probed
    finite = FiniteSet(FiniteSetOptions(compat=compat))
    weights_only = plan_for(probe, act_bits=None)
    assert finite.apply(weights_only, probe) == weights_only
    first = temporal(net, probe)[0]
    mixed = plan_for(probe)
    mixed = mixed.with_layers([mixed[first].change("a test", activation=None)])
    assert finite.apply(mixed, probe)[first] == mixed[first]


def test_nothing_to_change_fails(probed: ProbedUNet) -> None:
    net, _, probe = probed
    plan = plan_for(probe)
    plan = plan.with_layers(plan[name].change("a test", activation=None) for name in temporal(net, probe))
    with pytest.raises(CellFailedError, match="no quantized activation in the temporal block"):
        FiniteSet(FiniteSetOptions()).apply(plan, probe)
    with pytest.raises(CellFailedError, match="the option `projections`"):
        FiniteSet(FiniteSetOptions(projections=("none",))).apply(plan_for(probe), probe)


def test_a_table_of_equal_entries_is_the_static_quantizer() -> None:
    torch.manual_seed(0)
    x, group = torch.randn(20, 7), torch.arange(20) % STEPS
    static = frozen(x)
    table = quantizer(spec=replace(EIGHT_BITS, steps=STEPS))
    state = static.export()
    table.restore({key: value.expand(STEPS, -1).clone() for key, value in state.items()})
    assert torch.equal(table(x, group), static(x))
    assert not torch.equal(static(x), x)


def calibrated(probed: ProbedUNet, plan: Plan, ranges: str) -> QuantizedDenoiser:
    """A quantized network whose ranges were found on batches that mix all steps."""
    net, _, _ = probed
    q = QuantizedDenoiser(net, plan, Factory(ranges=ranges), STEPS)
    q.find_weight_grids()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad(), q.observing():
        for _ in range(4):
            step = torch.randperm(STEPS, generator=rng).repeat(2)
            q.context.step = step
            q.module(torch.randn(len(step), 3, 16, 16, generator=rng), TIMESTEPS[step])
    q.freeze_activations()
    return q


def extremes(probed: ProbedUNet, q: QuantizedDenoiser, layer: str) -> tuple[Tensor, Tensor]:
    """Smallest and largest input of a layer at each step, from passes that each have one step only, in float64."""
    lows, highs = [], []

    def look(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        low, high = args[0].double().aminmax()
        lows.append(low)
        highs.append(high)

    hook = q.layers[layer].register_forward_pre_hook(look)
    with torch.no_grad():
        for t in TIMESTEPS:
            q.module(torch.randn(1, 3, 16, 16), t)
    hook.remove()
    return torch.stack(lows), torch.stack(highs)


@pytest.mark.parametrize("ranges", ["minmax", "ema"])
def test_each_step_has_the_range_of_its_own_values(probed: ProbedUNet, ranges: str) -> None:
    """In the temporal block all values of a step are equal, so a moving average of extrema is the extrema."""
    net, _, probe = probed
    q = calibrated(probed, FiniteSet(FiniteSetOptions()).apply(plan_for(probe), probe), ranges)
    for name in temporal(net, probe):
        low, high = extremes(probed, q, name)
        assert bool((low < 0).all() and (high > 0).all())
        state = q.layers[name].export()
        scale, zero = state["a.0.scale"].squeeze(1), state["a.0.zero_point"].squeeze(1)
        expected = (high - low) / 255
        torch.testing.assert_close(scale.double(), expected, rtol=1e-5, atol=0)
        assert float((zero - (-low / expected).round()).abs().max()) <= 1
        assert len(scale.unique()) == STEPS
    other = q.layers["conv_in"].export()
    assert other["a.0.scale"].shape == (1, 1)


def test_rows_of_a_mixed_batch_take_the_grid_of_their_own_step(probed: ProbedUNet) -> None:
    net, _, probe = probed
    q = calibrated(probed, FiniteSet(FiniteSetOptions()).apply(plan_for(probe), probe), "minmax")
    unit = TemporalBlocks(TemporalBlocksOptions()).units(net, probe)[0]
    block = TemporalBlocks(TemporalBlocksOptions()).assemble(unit, q.module)
    q.quantize_activations(True)
    inputs = net.time_proj(TIMESTEPS)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        q.context.step = order
        together = block(inputs[order])
        for row, step in enumerate(order.tolist()):
            q.context.step = torch.tensor([step])
            alone = block(inputs[step : step + 1])
            for mixed, single in zip(together, alone, strict=True):
                torch.testing.assert_close(mixed[row : row + 1], single)
