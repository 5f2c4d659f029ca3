"""Attention sites in their module: whose call is whose, step groups, learning, dropped quantization, and stored state."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from quantkit import Attend, Factory, attached, attention_plan, ranged_attention, sites_of
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.func import functional_call, jvp

from ptqbench.errors import CellFailedError
from ptqbench.quant.attention import CHILD, AttentionCall, AttentionSites, attach
from ptqbench.quant.layer import StepContext
from ptqbench.quant.plan import SITES

STEPS = frozenset({"step"})


def operands(batch: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys, values (B, 2, 5, 4), larger from sample to sample."""
    rng = torch.Generator().manual_seed(seed)
    grow = torch.arange(1.0, batch + 1).reshape(-1, 1, 1, 1)
    q, k, v = (grow * torch.randn(batch, 2, 5, 4, generator=rng) for _ in range(3))
    return q, k, v


@pytest.mark.parametrize("heads_in_front", [False, True])
def test_batches_of_mixed_steps_equal_sample_by_sample_evaluation(heads_in_front: bool) -> None:
    q, k, v = (x.flatten(0, 1) if heads_in_front else x for x in operands())
    rows, step = 2 if heads_in_front else 1, torch.tensor([0, 5, 2, 3, 1, 4])
    module = attached(attention_plan(6, steps=3), steps=6)
    sites = sites_of(module)
    sites.context.step = step
    ranged_attention(module, q, k, v)
    assert all(quantizer.scale.shape == (3, 1) for quantizer in sites.quantizers.values())
    assert sites.quantizers["q"].scale.unique().numel() == 3
    together = module(q, k, v)
    for i in range(6):
        sites.context.step = step[i : i + 1]
        mine = slice(rows * i, rows * (i + 1))
        torch.testing.assert_close(together[mine], module(q[mine], k[mine], v[mine]), rtol=1e-5, atol=1e-6)


def test_rows_that_are_no_samples_are_refused() -> None:
    module = attached(attention_plan(6, steps=3), steps=6)
    sites_of(module).context.step = torch.arange(6)
    ranged_attention(module, *operands())
    with pytest.raises(ValueError, match="do not divide"):
        module(*(x[:4] for x in operands()))


class Nested(nn.Module):
    """An attention module with another one inside, which it calls between two calls of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Attend()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        first = F.scaled_dot_product_attention(q, k, v)
        second = self.inner(q, k, first)
        return F.scaled_dot_product_attention(q, k, second)


@pytest.mark.parametrize("inner_bits", [None, 5])
@pytest.mark.parametrize("softmax", [True, False])
def test_a_call_belongs_to_the_innermost_module(inner_bits: int | None, softmax: bool) -> None:
    q, k, v = operands()
    net, context = Nested(), StepContext()
    drop = {} if softmax else {"softmax": None}
    for module, bits in ((net, 3), (net.inner, inner_bits)):
        attach(module, AttentionSites(attention_plan(bits, **drop), Factory(), context))
    outer, inner = sites_of(net), sites_of(net.inner)
    for sites in (outer, inner):
        sites.observe_activations = True
    net(q, k, v)
    for sites in (outer, inner):
        sites.observe_activations = False
        for quantizer in sites.quantizers.values():
            quantizer.freeze()
        sites.quantize_activations = True
    attention = F.scaled_dot_product_attention
    by_hand = outer(attention, q, k, inner(attention, q, k, outer(attention, q, k, v)))
    assert torch.equal(net(q, k, v), by_hand)
    inner.quantize_activations = False
    assert torch.equal(net(q, k, v), outer(attention, q, k, attention(q, k, outer(attention, q, k, v))))


def test_an_error_inside_leaves_no_trace() -> None:
    q, k, v = operands()
    module = attached(attention_plan(3))
    sites = ranged_attention(module, q, k, v)
    with pytest.raises(RuntimeError):
        module(q, k[..., :2], v)
    assert torch.equal(Attend()(q, k, v), F.scaled_dot_product_attention(q, k, v))
    assert torch.equal(module(q, k, v), sites(F.scaled_dot_product_attention, q, k, v))


def test_a_deep_copy_has_sites_of_its_own() -> None:
    q, k, v = operands()
    module = attached(attention_plan(3))
    ranged_attention(module, q, k, v)
    before = module(q, k, v)
    twin = copy.deepcopy(module)
    assert torch.equal(twin(q, k, v), before)
    sites_of(twin).quantizers["q"].scale.mul_(3)
    assert not torch.equal(twin(q, k, v), before)
    assert torch.equal(module(q, k, v), before)


def test_the_patched_forward_keeps_its_signature() -> None:
    net = Nested()
    attach(net, AttentionSites(attention_plan(3), Factory(), StepContext()))
    assert list(inspect.signature(net.forward).parameters) == ["q", "k", "v"]


def test_learning_begins_and_ends_with_the_quantizers() -> None:
    q, k, v = operands()
    module = attached(attention_plan(4, v=None), activations="lsq")
    sites = ranged_attention(module, q, k, v)
    sites.quantize_activations = False
    sites.begin_learning(STEPS)
    assert not list(module.named_parameters())
    sites.quantize_activations = True
    sites.begin_learning(frozenset({"rounding"}))
    assert not list(module.named_parameters())
    sites.begin_learning(STEPS)
    params = dict(module.named_parameters())
    assert set(params) == {f"{CHILD}.{site}.log_step" for site in ("q", "k", "softmax")}
    module(q, k, v).square().mean().backward()
    assert all(parameter.grad.abs() > 0 for parameter in params.values())
    doubled = functional_call(module, {name: parameter + math.log(2) for name, parameter in params.items()}, (q, k, v))
    for parameter in params.values():
        parameter.data.add_(math.log(2))
    sites.end_learning()
    assert not list(module.named_parameters())
    assert torch.equal(module(q, k, v), doubled)


def test_forward_mode_agrees_with_reverse_mode() -> None:
    q, k, v = (x.double() for x in operands())
    module = attached(attention_plan(4), activations="lsq")
    sites = ranged_attention(module, q, k, v)
    sites.begin_learning(STEPS)
    params = {name: parameter.detach() for name, parameter in module.named_parameters()}
    direction = {name: torch.full_like(value, 0.1 * (i + 1)) for i, (name, value) in enumerate(params.items())}
    loss = lambda given: functional_call(module, given, (q, k, v)).square().sum()  # noqa: E731
    _, forward = jvp(loss, (params,), (direction,))
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    slopes = torch.autograd.grad(loss(leaves), list(leaves.values()))
    reverse = sum((g * d).sum() for g, d in zip(slopes, direction.values(), strict=True))
    torch.testing.assert_close(forward, reverse)


def test_dropped_quantization_leaves_elements_as_they_were() -> None:
    q, k, v = operands()
    module = attached(attention_plan(3))
    sites = ranged_attention(module, q, k, v)
    rounded = module(q, k, v)
    sites.context.keep, sites.context.generator = 0.0, torch.Generator().manual_seed(0)
    torch.testing.assert_close(module(q, k, v), F.scaled_dot_product_attention(q, k, v))
    sites.context.keep, sites.context.generator = 0.5, torch.Generator().manual_seed(0)
    seen = module(q, k, v)
    rng = torch.Generator().manual_seed(0)
    parts = []
    for site, x in zip("qkv", (q, k, v), strict=True):
        u = torch.rand(x.shape, generator=rng)
        parts.append(torch.where(u < 0.5, sites.quantizers[site](x), x))
    mixed = AttentionCall(*parts)
    weights = mixed.weights()
    u = torch.rand(weights.shape, generator=rng)
    assert torch.equal(seen, mixed.weighted(torch.where(u < 0.5, sites.quantizers["softmax"](weights), weights)))
    assert not torch.equal(seen, rounded)


@pytest.mark.parametrize("activations", ["uniform", "lsq"])
def test_export_and_restore_give_the_same_outputs_bit_for_bit(activations: str) -> None:
    q, k, v = operands()
    plan = attention_plan(5, steps=2, k=None)
    module = attached(plan, steps=6, activations=activations)
    sites = sites_of(module)
    assert sites.export() == {}
    sites.context.step = torch.arange(6)
    ranged_attention(module, q, k, v)
    state = sites.export()
    assert set(state) == {f"a.{site}.{key}" for site in ("q", "v", "softmax") for key in ("scale", "zero_point")}
    again = attached(plan, steps=6, activations=activations)
    sites_of(again).context.step = torch.arange(6)
    sites_of(again).restore(load(save({key: value.contiguous() for key, value in state.items()})))
    sites_of(again).quantize_activations = True
    assert torch.equal(again(q, k, v), module(q, k, v))
    assert all(torch.equal(value, state[key]) for key, value in sites_of(again).export().items())
    one = {key: 2 * value if key == "a.q.scale" else value for key, value in state.items() if key.startswith("a.q.")}
    sites.restore(one)
    assert torch.equal(sites.export()["a.q.scale"], 2 * state["a.q.scale"])
    assert torch.equal(sites.export()["a.v.scale"], state["a.v.scale"])


def test_no_quantizer_runs_before_its_range_is_known() -> None:
    module = attached(attention_plan(3))
    sites_of(module).quantize_activations = True
    with pytest.raises(CellFailedError, match="before its range was found"):
        module(*operands())


def test_sites_without_a_grid_have_no_quantizer() -> None:
    plan = attention_plan(4, q=None, softmax=None)
    sites = sites_of(attached(plan))
    assert list(sites.quantizers) == ["k", "v"]
    assert [site for site in SITES if plan.spec(site) is None] == ["q", "softmax"]
