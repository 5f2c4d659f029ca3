"""Attention with rounded operands: against a brute force in float64, against torch's own, and in its derivatives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from quantkit import Attend, attached, attention_plan, ranged_attention, sites_of
from torch import Tensor
from torch.func import functional_call

from ptqbench.errors import CellFailedError
from ptqbench.quant.attention import CHILD, AttentionCall
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.plan import SITES, AttentionPlan

Grids = Mapping[str, tuple[float, float, int]]
"""Scale, zero point and highest code of each site."""

B, H, L, S, E, V = 2, 4, 3, 5, 6, 7


def operands(heads: int = H, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, H, L, E), keys (B, heads, S, E) and values (B, heads, S, V), float64."""
    rng = torch.Generator().manual_seed(seed)
    shapes = (B, H, L, E), (B, heads, S, E), (B, heads, S, V)
    q, k, v = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes)
    return q, k, v


def masks() -> dict[str, dict[str, Any]]:
    """Arguments of torch's attention by what they try."""
    rng = torch.Generator().manual_seed(1)
    allowed = torch.rand(B, 1, L, S, generator=rng) < 0.7
    allowed[..., 0] = True
    hopeless = allowed.clone()
    hopeless[:, :, 1] = False
    added = torch.randn(L, S, generator=rng, dtype=torch.float64)
    blocked = added.clone()
    blocked[0] = -math.inf
    return {
        "plain": {},
        "scale": {"scale": 0.3},
        "bool mask": {"attn_mask": allowed},
        "a row without keys": {"attn_mask": hopeless},
        "added mask": {"attn_mask": added},
        "a row of minus infinity": {"attn_mask": blocked},
        "causal": {"is_causal": True},
        "shared keys": {"enable_gqa": True},
        "all": {"attn_mask": allowed, "scale": 0.7, "enable_gqa": True},
    }


WAYS = pytest.mark.parametrize("way", masks(), ids=str)


def inputs(way: str) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
    options = masks()[way]
    return operands(2 if options.get("enable_gqa") else H), options


def rounded(x: float, grid: tuple[float, float, int] | None) -> float:
    """x on a grid, by the definition."""
    if grid is None:
        return x
    scale, zero, high = grid
    return scale * (min(max(round(x / scale) + zero, 0), high) - zero)


def brute_force(q: Tensor, k: Tensor, v: Tensor, grids: Grids, options: Mapping[str, Any]) -> Tensor:
    """Attention number by number in Python's own floats."""
    mask, share = options.get("attn_mask"), q.shape[1] // k.shape[1]
    if mask is not None:
        mask = mask.expand(B, 1 if mask.dim() < 4 else mask.shape[1], L, S).expand(B, H, L, S)
    out = torch.zeros(B, H, L, V, dtype=torch.float64)
    for b, h, i in itertools.product(range(B), range(H), range(L)):
        logits = []
        for j in range(S):
            pairs = zip(q[b, h, i].tolist(), k[b, h // share, j].tolist(), strict=True)
            product = sum(rounded(x, grids.get("q")) * rounded(y, grids.get("k")) for x, y in pairs)
            logit = product * options.get("scale", 1 / math.sqrt(E))
            if options.get("is_causal") and j > i:
                logit = -math.inf
            if mask is not None:
                entry = mask[b, h, i, j].item()
                logit = (logit if entry else -math.inf) if isinstance(entry, bool) else logit + entry
            logits.append(logit)
        powers = [math.exp(logit) for logit in logits]
        for j, power in enumerate(powers):
            weight = rounded(power / sum(powers), grids.get("softmax")) if sum(powers) else 0.0
            for d in range(V):
                out[b, h, i, d] += weight * rounded(v[b, h // share, j, d].item(), grids.get("v"))
    return out


def given_grids(module: Attend, grids: Grids) -> None:
    """Put these grids into the sites and quantize."""
    sites = sites_of(module)
    for site, (scale, zero, _) in grids.items():
        state = {
            "scale": torch.tensor([[scale]], dtype=torch.float64),
            "zero_point": torch.tensor([[zero]], dtype=torch.float64),
        }
        sites.restore({f"a.{site}.{key}": value for key, value in state.items()})
    sites.quantize_activations = True


GRIDS: Grids = {"q": (0.31, 7, 15), "k": (0.27, 9, 15), "v": (0.23, 8, 15), "softmax": (0.043, 0, 15)}


@WAYS
@pytest.mark.parametrize("sites", [*([site] for site in SITES), SITES], ids=",".join)
def test_every_site_matches_a_brute_force(way: str, sites: tuple[str, ...]) -> None:
    (q, k, v), options = inputs(way)
    grids = {site: GRIDS[site] for site in sites}
    full = {site: None for site in SITES if site not in sites}
    module = attached(attention_plan(4, **full))
    given_grids(module, grids)
    out = module(q, k, v, **options)
    torch.testing.assert_close(out, brute_force(q, k, v, grids, options), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(out, F.scaled_dot_product_attention(q, k, v, **options))


@WAYS
def test_the_explicit_softmax_is_torchs_with_its_gradient(way: str) -> None:
    tensors, options = inputs(way)
    ours, theirs = ([x.clone().requires_grad_() for x in tensors] for _ in range(2))
    call = AttentionCall(*ours, **options)
    out = call.weighted(call.weights())
    expected = F.scaled_dot_product_attention(*theirs, **options)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    out.sin().sum().backward()
    expected.sin().sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        assert bool(x.grad.isfinite().all())
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-10, atol=1e-12)


@WAYS
def test_without_an_active_site_it_is_torchs_own_bit_for_bit(way: str) -> None:
    tensors, options = inputs(way)
    q, k, v = (x.float() for x in tensors)
    if isinstance(mask := options.get("attn_mask"), Tensor) and mask.is_floating_point():
        options["attn_mask"] = mask.float()
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    module = attached(attention_plan(4))
    assert torch.equal(module(q, k, v, **options), expected)
    sites = sites_of(module)
    sites.observe_activations = True
    assert torch.equal(module(q, k, v, **options), expected)
    nothing = attached(attention_plan(None))
    sites_of(nothing).quantize_activations = True
    assert torch.equal(nothing(q, k, v, **options), expected)


def test_without_the_softmax_torchs_kernel_runs_on_rounded_operands() -> None:
    q, k, v = operands()
    module = attached(attention_plan(4, softmax=None))
    sites = ranged_attention(module, q, k, v)
    by_hand = [sites.quantizers[site](x) for site, x in zip("qkv", (q, k, v), strict=True)]
    assert torch.equal(module(q, k, v, dropout_p=0.0), F.scaled_dot_product_attention(*by_hand))


def test_positions_and_names_mean_the_same() -> None:
    q, k, v = operands()
    mask = torch.ones(L, S, dtype=torch.bool).tril(1)
    module = attached(attention_plan(4))
    ranged_attention(module, q, k, v, mask)
    named = module(query=q, key=k, value=v, attn_mask=mask, dropout_p=0.0, is_causal=False, scale=None)
    assert torch.equal(module(q, k, v, mask, 0.0, False), named)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dropout_p": 0.1}, "dropout"),
        ({"is_causal": True, "attn_mask": torch.ones(L, S, dtype=torch.bool)}, "causal"),
    ],
)
def test_what_is_not_offered_is_refused(options: dict[str, Any], words: str) -> None:
    q, k, v = operands()
    module = attached(attention_plan(4))
    given_grids(module, GRIDS)
    with pytest.raises(CellFailedError, match=words):
        module(q, k, v, **options)


def test_nested_tensors_are_refused() -> None:
    nested = torch.nested.as_nested_tensor([torch.randn(2, 4), torch.randn(3, 4)])
    with pytest.raises(CellFailedError, match="nested"):
        AttentionCall(nested, nested, nested).weights()


@pytest.mark.parametrize("ranges", ["minmax", "ema", "mse"])
def test_the_softmaxs_grid_starts_at_zero(ranges: str) -> None:
    # Weights between 0.15 and 0.3: a grid that only spans them would leave zero out.
    q, k, v = (0.2 * x for x in operands())
    for symmetric in (False, True):
        plan = AttentionPlan.uniform("attention", QuantSpec(4, "channel", symmetric))
        sites = ranged_attention(attached(plan, ranges=ranges), q, k, v)
        highest = AttentionCall(q, k, v).weights().max().item()
        grid = sites.quantizers["softmax"]
        assert grid.zero_point.item() == 0
        assert 0.2 * highest < 15 * grid.scale.item() <= highest * (1 + 1e-12)
        assert (grid.spec.levels.low, grid.spec.levels.high) == (0, 15)
        assert [sites.quantizers[site].spec.symmetric for site in "qkv"] == [symmetric] * 3
        assert {quantizer.spec.per for quantizer in sites.quantizers.values()} == {"tensor"}


def surrogate(tensors: tuple[Tensor, Tensor, Tensor], base: Mapping[str, float], grids: Grids) -> Callable[[np.ndarray], float]:
    """A smooth loss of the four scales whose derivatives are those of the straight-through estimator at `base`.

    Inside the grid the estimator takes round(x / s) - x / s for a constant r, so that the rounded value is x + s r; outside
    it is s times the end's code.
    """
    q, k, v = (x.numpy() for x in tensors)
    fixed: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def quantized(site: str, x: np.ndarray, s: float) -> np.ndarray:
        _, zero, high = grids[site]
        if site not in fixed:
            codes = np.round(x / base[site]) + zero
            residue = np.round(x / base[site]) - x / base[site]
            fixed[site] = (codes >= 0) & (codes <= high), residue, np.clip(codes, 0, high) - zero
        inside, residue, end = fixed[site]
        return np.where(inside, x + s * residue, s * end)

    def loss(scales: np.ndarray) -> float:
        s = dict(zip(SITES, scales.tolist(), strict=True))
        logits = quantized("q", q, s["q"]) @ quantized("k", k, s["k"]).swapaxes(-2, -1) / math.sqrt(E)
        powers = np.exp(logits)
        weights = quantized("softmax", powers / powers.sum(-1, keepdims=True), s["softmax"])
        return float(np.square(weights @ quantized("v", v, s["v"]) - 0.1).sum())

    loss(np.array([base[site] for site in SITES]))
    assert all(0 < fixed[site][0].mean() < 1 for site in SITES), "values inside and outside of every grid are wanted"
    return loss


def test_first_and_second_derivatives_by_finite_differences() -> None:
    tensors = operands()
    # Too small by a third: some values are clipped at every site.
    grids = {site: (scale * 0.66, zero, high) for site, (scale, zero, high) in GRIDS.items()}
    module = attached(attention_plan(4), activations="lsq")
    given_grids(module, grids)
    sites_of(module).begin_learning(frozenset({"step"}))
    params = dict(module.named_parameters())
    assert sorted(params) == sorted(f"{CHILD}.{site}.log_step" for site in SITES)
    scales = [params[f"{CHILD}.{site}.log_step"] for site in SITES]
    loss = (functional_call(module, params, tensors) - 0.1).square().sum()
    first = torch.autograd.grad(loss, scales, create_graph=True)
    second = [[x.item() for x in torch.autograd.grad(g, scales, retain_graph=True)] for g in first]

    starts = np.array([grids[site][0] for site in SITES])
    by_scale = surrogate(tensors, {site: grids[site][0] for site in SITES}, grids)
    smooth = lambda log_step: by_scale(starts * np.exp(log_step))  # noqa: E731
    at, step = np.zeros(4), 1e-4 * np.eye(4)
    assert smooth(at) == pytest.approx(loss.item(), rel=1e-12)
    slopes = [(smooth(at + d) - smooth(at - d)) / 2e-4 for d in step]
    assert [g.item() for g in first] == pytest.approx(slopes, rel=1e-5)
    for i, j in itertools.product(range(4), range(4)):
        ends = [smooth(at + a * step[i] + b * step[j]) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        bend = (ends[0] - ends[1] - ends[2] + ends[3]) / 4e-8
        assert second[i][j] == pytest.approx(bend, rel=1e-3, abs=1e-3 * max(map(abs, second[i])))
