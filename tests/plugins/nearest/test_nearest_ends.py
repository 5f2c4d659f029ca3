"""The pass `first-last-8bit`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from quantkit import plan_for, skip_net
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import Plan, Probe
from ptqbench_nearest import EndsOptions
from ptqbench_nearest.ends import FirstLastPass


def bits(plan: Plan) -> dict[str, tuple[int | None, int | None]]:
    return {
        layer.name: (layer.weight.bits if layer.weight else None, layer.activation.bits if layer.activation else None)
        for layer in plan.layers
    }


def test_ends_by_execution_not_registration() -> None:
    _, _, probe = skip_net()
    plan = FirstLastPass(EndsOptions()).apply(plan_for(probe, 4, 6), probe)
    assert bits(plan) == {"first": (8, 8), "down": (4, 6), "shortcut": (4, 6), "tokens": (4, 6), "last": (8, 8)}
    assert plan["first"].why == ("first-last-8bit: first layer",)
    assert plan["last"].why == ("first-last-8bit: last layer",)
    assert plan["down"].why == ()
    assert plan["first"].weight == replace(plan["down"].weight, bits=8)


def test_full_precision_and_enough_bits_stay() -> None:
    _, _, probe = skip_net()
    plan = FirstLastPass(EndsOptions()).apply(plan_for(probe, 4, None), probe)
    assert bits(plan)["first"] == (8, None)
    enough = plan_for(probe, 8, 8)
    assert FirstLastPass(EndsOptions(bits=6)).apply(enough, probe) == enough


def test_on_a_unet(unet: tuple[nn.Module, Tensor, Probe]) -> None:
    probe = unet[2]
    before = plan_for(probe)
    after = FirstLastPass(EndsOptions(bits=6)).apply(before, probe)
    changed = [new.name for new, old in zip(after.layers, before.layers, strict=True) if new != old]
    assert changed == ["conv_in", "conv_out"]
    assert bits(after)["conv_in"] == (6, 8)


def test_a_layer_that_is_both_ends_is_widened_once() -> None:
    _, _, probe = skip_net()
    alone = Probe(probe.layers[:1], probe.calls)
    plan = FirstLastPass(EndsOptions()).apply(plan_for(alone), alone)
    assert plan["first"].why == ("first-last-8bit: first layer",)


def test_no_layer_that_reads_the_input_fails() -> None:
    _, _, probe = skip_net()
    blind = Probe(tuple(replace(layer, reads_input=False) for layer in probe.layers), probe.calls)
    with pytest.raises(CellFailedError, match="reads the denoiser's input"):
        FirstLastPass(EndsOptions()).apply(plan_for(blind), blind)
