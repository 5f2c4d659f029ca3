"""The quantized copy of a denoiser."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from quantkit import Factory, plan_for, skip_net
from safetensors.torch import load, save
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import LayerPlan, Plan, Probe

ProbedUNet = tuple[nn.Module, Tensor, Probe]


def ranged(q: QuantizedDenoiser, *args: Tensor) -> QuantizedDenoiser:
    """Weight grids, activation ranges on one call, activations on."""
    q.find_weight_grids()
    with torch.no_grad(), q.observing():
        q.module(*args)
    q.freeze_activations()
    q.quantize_activations(True)
    return q


def learn(q: QuantizedDenoiser, kind: str, seed: int = 0) -> None:
    """Move all trainables of a kind by chance, then harden: what a reconstruction leaves behind."""
    rng = torch.Generator().manual_seed(seed)
    for layer in q.layers.values():
        layer.begin_learning(frozenset({kind}))
        for name, parameter in layer.named_parameters():
            if name.endswith(("alpha", "scale")):
                factor = torch.randn(parameter.shape, generator=rng)
                parameter.data.mul_(factor if kind == "rounding" else 1 + 0.1 * factor)
        layer.end_learning()


def stored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a round trip through a file gives."""
    return load(save({key: value.contiguous() for key, value in state.items()}))


@pytest.mark.parametrize("weights", ["uniform", "adaround"])
@pytest.mark.parametrize("per", ["channel", "tensor"])
@pytest.mark.parametrize("grad", [True, False])
def test_export_and_restore_give_the_same_outputs_bit_for_bit(weights: str, per: str, grad: bool) -> None:
    net, x, probe = skip_net()
    split = plan_for(probe)["shortcut"].change("split", partitions=(8, 4))
    plan = Plan.uniform(probe, QuantSpec(3, per), QuantSpec(6)).with_layers([split])
    q = ranged(QuantizedDenoiser(net, plan, Factory(weights, "lsq"), steps=1), x)
    learn(q, "rounding")
    learn(q, "step")
    again = QuantizedDenoiser(net, plan, Factory(weights, "lsq"), steps=1)
    again.restore(stored(q.export()))
    again.quantize_activations(True)
    with torch.set_grad_enabled(grad):
        assert torch.equal(again.module(x), q.module(x))
    second = again.export()
    assert q.export().keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in q.export().items())


def test_a_real_unet_round_trips(unet: ProbedUNet) -> None:
    net, x, probe = unet
    t = torch.tensor([7, 700])
    plan = plan_for(probe)
    q = ranged(QuantizedDenoiser(net, plan, Factory("adaround", "lsq"), steps=1), x, t)
    again = QuantizedDenoiser(net, plan, Factory("adaround", "lsq"), steps=1)
    again.restore(stored(q.export()))
    again.quantize_activations(True)
    with torch.no_grad():
        assert torch.equal(again.module(x, t).sample, q.module(x, t).sample)
        assert not torch.equal(q.module(x, t).sample, net(x, t).sample)


def test_without_grids_the_copy_is_the_original(conditional_unet: ProbedUNet) -> None:
    net, x, probe = conditional_unet
    q = QuantizedDenoiser(net, plan_for(probe, None, None), Factory(), steps=1)
    t, text = torch.tensor([7, 700]), torch.randn(2, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(q.module(x, t, text).sample, net(x, t, text).sample)


def test_the_original_is_left_alone() -> None:
    net, x, probe = skip_net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    ranged(QuantizedDenoiser(net, plan_for(probe), Factory("adaround", "lsq"), steps=1), x)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_observing_leaves_outputs_in_full_precision() -> None:
    net, x, probe = skip_net()
    q = QuantizedDenoiser(net, plan_for(probe, None, 4), Factory(), steps=1)
    q.quantize_activations(True)
    # A layer's kernel may depend on whether its weight requires a gradient.
    net.requires_grad_(False)
    with torch.no_grad(), q.observing():
        assert torch.equal(q.module(x), net(x))


def test_a_layer_that_saw_nothing_is_named() -> None:
    net, _, probe = skip_net()
    plan = Plan((*plan_for(probe).layers, LayerPlan("unused", "Linear", None, QuantSpec(8))))
    q = QuantizedDenoiser(net, plan, Factory(), steps=1)
    q.find_weight_grids()
    with torch.no_grad(), q.observing():
        q.module(torch.randn(2, 3, 8, 8))
    with pytest.raises(CellFailedError, match="unused: no values were observed") as error:
        q.freeze_activations()
    assert "shortcut" not in error.value.message


def test_state_of_another_plan_is_refused() -> None:
    net, _, probe = skip_net()
    q = QuantizedDenoiser(net, plan_for(probe), Factory(), steps=1)
    with pytest.raises(CellFailedError, match="unknown layers: elsewhere"):
        q.restore({"elsewhere|w.0.scale": torch.ones(1, 1)})


def test_a_plan_without_layers_is_refused() -> None:
    with pytest.raises(CellFailedError, match="no layer of this model can be quantized"):
        QuantizedDenoiser(nn.Identity(), Plan(()), Factory(), steps=1)


@pytest.mark.parametrize("steps", [1, 3])
def test_batches_of_mixed_steps_equal_step_by_step_evaluation(steps: int) -> None:
    net, _, probe = skip_net()
    x, step = torch.randn(6, 3, 8, 8), torch.tensor([0, 5, 2, 3, 1, 4])
    q = QuantizedDenoiser(net, plan_for(probe, 8, 8, steps), Factory(), steps=6)
    q.context.step = step
    ranged(q, x)
    with torch.no_grad():
        together = q.module(x)
        for i in range(6):
            q.context.step = step[i : i + 1]
            torch.testing.assert_close(together[i : i + 1], q.module(x[i : i + 1]), rtol=1e-4, atol=1e-5)
