"""The quantized copy of a denoiser."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from quantkit import Attend, Factory, plan_for, skip_net
from safetensors.torch import load, save
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import SITES, AttentionPlan, LayerPlan, Plan, Probe, UnitPlan
from ptqbench.quant.probe import probe_denoiser

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
    for site in q.sites.values():
        site.begin_learning(frozenset({kind}))
        for name, parameter in site.named_parameters():
            if name.endswith(("alpha", "scale")):
                factor = torch.randn(parameter.shape, generator=rng)
                parameter.data.mul_(factor if kind == "rounding" else 1 + 0.1 * factor)
        site.end_learning()


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
    learn(q, "rounding")
    learn(q, "step")
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


def units_of(*names: str, synthetic: bool = False) -> list[UnitPlan]:
    return [UnitPlan(name, name, (), synthetic) for name in names]


def test_attentions_are_sites_of_the_copy_and_not_of_the_original(unet: ProbedUNet) -> None:
    net, x, probe = unet
    t = torch.tensor([7, 700])
    q = ranged(QuantizedDenoiser(net, plan_for(probe), Factory(), steps=1), x, t)
    assert list(q.attentions) == [attention.name for attention in probe.attentions]
    assert set(q.sites) == set(q.layers) | set(q.attentions)
    quantizers = dict(q.module.named_modules())
    for name, sites in q.attentions.items():
        assert quantizers[f"{name}.attention_sites.softmax"] is sites.quantizers["softmax"]
        assert "forward" not in vars(net.get_submodule(name))
    with torch.no_grad():
        full = q.module(x, t).sample
        for sites in q.attentions.values():
            sites.quantize_activations = False
        assert not torch.equal(q.module(x, t).sample, full)


def test_every_site_of_attention_has_a_part_in_the_output(unet: ProbedUNet) -> None:
    net, x, probe = unet
    t = torch.tensor([7, 700])
    outputs = []
    for dropped in (None, *SITES):
        plan = plan_for(probe, None, 4)
        if dropped is not None:
            plan = plan.with_attentions(attention.change("a test", **{dropped: None}) for attention in plan.attentions)
        q = ranged(QuantizedDenoiser(net, plan, Factory(), steps=1), x, t)
        with torch.no_grad():
            outputs.append(q.module(x, t).sample)
    assert not any(torch.equal(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


def test_observing_attention_leaves_outputs_in_full_precision(unet: ProbedUNet) -> None:
    net, x, probe = unet
    t = torch.tensor([7, 700])
    net = copy.deepcopy(net).requires_grad_(False)
    q = QuantizedDenoiser(net, plan_for(probe, None, 4), Factory(), steps=1)
    with torch.no_grad(), q.observing():
        assert torch.equal(q.module(x, t).sample, net(x, t).sample)
    q.freeze_activations()
    assert all(len(site.export()) == 8 for site in q.attentions.values())


def test_an_attention_site_that_saw_nothing_is_named(unet: ProbedUNet) -> None:
    net, _, probe = unet
    q = QuantizedDenoiser(net, plan_for(probe), Factory(), steps=1)
    with pytest.raises(CellFailedError, match=r"mid_block\.attentions\.0 softmax: no values were observed"):
        q.freeze_activations()


def test_a_unit_owns_its_layers_and_the_attentions_inside_it(unet: ProbedUNet) -> None:
    net, _, probe = unet
    q = QuantizedDenoiser(net, plan_for(probe), Factory(), steps=1)
    names = list(q.attentions)
    own = lambda unit: list(q.owned(unit))  # noqa: E731
    attention, block, other, whole = units_of("mid_block.attentions.0", "up_blocks.0", "up_blocks.0.attentions.0.to_q", "")
    assert own(attention) == ["mid_block.attentions.0"]
    assert own(block) == [name for name in names if name.startswith("up_blocks.0.")]
    assert own(other) == []
    assert own(whole) == names
    assert own(units_of("up_blocks.0", synthetic=True)[0]) == []
    layers = UnitPlan("block", "mid_block.attentions.0", ("mid_block.attentions.0.to_q", "conv_in"))
    assert own(layers) == ["mid_block.attentions.0.to_q", "conv_in", "mid_block.attentions.0"]
    assert q.owned(layers)["conv_in"] is q.layers["conv_in"]
    assert q.owned(layers)["mid_block.attentions.0"] is q.attentions["mid_block.attentions.0"]


def test_a_name_that_only_begins_like_a_unit_is_not_in_it() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.ab, self.layer = Attend(), Attend(), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.a(x, x, self.ab(x, x, x)))

    net, x = Two(), torch.randn(2, 5, 4)
    q = QuantizedDenoiser(net, plan_for(probe_denoiser(net, lambda: net(x), x)), Factory(), steps=1)
    assert list(q.owned(units_of("a")[0])) == ["a"]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_unet_in_batches_of_mixed_steps_equals_step_by_step_evaluation(unet: ProbedUNet, steps: int) -> None:
    net, _, probe = unet
    rng = torch.Generator().manual_seed(0)
    x, step = torch.randn(4, 3, 16, 16, generator=rng), torch.tensor([0, 3, 1, 2])
    t = torch.tensor([900, 10, 600, 300])
    q = QuantizedDenoiser(net, plan_for(probe, None, None), Factory(), steps=4)
    plan = q.plan.with_attentions(AttentionPlan.uniform(a.name, QuantSpec(4, steps=steps)) for a in q.plan.attentions)
    q = QuantizedDenoiser(net, plan, Factory(), steps=4)
    q.context.step = step
    ranged(q, x, t)
    assert q.attentions["mid_block.attentions.0"].quantizers["v"].scale.shape == (steps, 1)
    with torch.no_grad():
        together = q.module(x, t).sample
        for i in range(4):
            q.context.step = step[i : i + 1]
            torch.testing.assert_close(together[i : i + 1], q.module(x[i : i + 1], t[i : i + 1]).sample, rtol=1e-3, atol=1e-4)


def test_meanwhile_only_some_layers_are_quantized() -> None:
    net, x, probe = skip_net()
    q = ranged(QuantizedDenoiser(net, plan_for(probe), Factory(), steps=1), x)
    everything = q.module(x)
    with q.only(()):
        torch.testing.assert_close(q.module(x), net(x))
    with q.only({"first"}):
        some = q.module(x)
    alone = QuantizedDenoiser(net, plan_for(probe), Factory(), steps=1)
    ranged(alone, x)
    for name, layer in alone.layers.items():
        if name != "first":
            layer.quantize_activations, layer.baked = False, layer.weight.detach()
    assert torch.equal(some, alone.module(x)) and not torch.equal(some, everything)
    assert torch.equal(q.module(x), everything)


def test_a_view_computes_with_other_tensors_and_leaves_the_network_alone() -> None:
    net, x, probe = skip_net()
    q = QuantizedDenoiser(net, plan_for(probe), Factory("adaround"), steps=1)
    q.find_weight_grids()
    q.layers["down"].begin_learning(frozenset({"rounding"}))
    (alpha,) = [p for name, p in q.module.named_parameters() if name.endswith("alpha")]
    before, other = q.module(x), (alpha + 1).detach().requires_grad_()
    found = q.substituted({alpha: other}).module(x)
    found.square().sum().backward()
    assert other.grad is not None and bool(other.grad.any()) and alpha.grad is None
    assert torch.equal(q.module(x), before)
    with torch.no_grad():
        alpha.add_(1)
    torch.testing.assert_close(q.module(x), found)


class Shared(nn.Module):
    """One layer at two paths, called at both."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6, bias=False)
        self.b = self.a

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.a(x), self.b(x)], dim=1)


def test_a_layer_that_stands_at_two_paths_is_quantized_at_both() -> None:
    torch.manual_seed(0)
    net, x = Shared(), torch.randn(4, 6)
    probe = probe_denoiser(net, lambda: net(x), x)
    (layer,) = probe.layers
    assert (layer.name, layer.macs) == ("a", 2 * 6 * 6)
    q = QuantizedDenoiser(net, plan_for(probe), Factory(), steps=1)
    q.find_weight_grids()
    first, second = q.module(x).chunk(2, dim=1)
    assert torch.equal(first, second) and not torch.equal(first, net.a(x))
    assert isinstance(net.b, nn.Linear)


class Encoder(nn.Module):
    """torch's own transformer, whose fused kernel reads weights past the layers."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(x, src_key_padding_mask=mask)


def test_layers_of_torchs_transformer_are_quantized_without_gradients_as_with_them() -> None:
    torch.manual_seed(0)
    net, x = Encoder().eval(), torch.randn(2, 5, 8)
    mask = torch.tensor([[False] * 5, [False] * 4 + [True]])
    probe = probe_denoiser(net, lambda: net(x, mask), x)
    names = [f"encoder.layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2)]
    assert [layer.name for layer in probe.layers] == names
    q = ranged(QuantizedDenoiser(net, Plan.uniform(probe, QuantSpec(3, "channel"), QuantSpec(4)), Factory(), 1), x, mask)
    by_hand = copy.deepcopy(net)
    for name, layer in q.layers.items():
        by_hand.get_submodule(name).weight.data = layer.baked
    q.quantize_activations(False)
    with torch.enable_grad():
        wanted = by_hand(x, mask)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = q.module(x, mask)
        assert torch.allclose(found[:, :4], wanted[:, :4], atol=1e-5)
    assert not torch.allclose(net(x, mask)[:, :4], wanted[:, :4], atol=1e-2)
    assert not any(module._forward_pre_hooks for module in net.modules())


class Asks(nn.Module):
    """Reads what its layer is like."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.conv.out_channels


def test_a_quantized_layer_answers_for_the_layer_that_it_is_made_of() -> None:
    net, x = Asks(), torch.randn(2, 3, 4, 4)
    q = QuantizedDenoiser(net, Plan.uniform(probe_denoiser(net, lambda: net(x), x), QuantSpec(4), None), Factory(), 1)
    q.find_weight_grids()
    assert torch.equal(q.module(x), 4 * q.layers["conv"](x))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = q.layers["conv"].nothing_of_the_kind


def test_a_network_that_cannot_be_copied_is_named_with_the_reason() -> None:
    net, x = Asks(), torch.randn(2, 3, 4, 4)
    plan = Plan.uniform(probe_denoiser(net, lambda: net(x), x), QuantSpec(4), None)
    net.seen = net(x)
    with pytest.raises(CellFailedError, match="Asks cannot be copied: Only Tensors created explicitly"):
        QuantizedDenoiser(net, plan, Factory(), 1)
