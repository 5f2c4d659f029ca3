"""The two products of an attention as quantization sites: queries, keys, values, and the softmax's output.

A module that calls `torch.nn.functional.scaled_dot_product_attention` gets an `AttentionSites` as a child, and its `forward`
replaces that call while it runs. Whatever class the module is, nothing of it has to be known. An attention that is written
with batched products and a softmax of its own is not replaced, nor is one inside `torch.nn.MultiheadAttention`; the probe
notes such softmaxes for the bit ledger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ptqbench.errors import CellFailedError
from ptqbench.process.torch_settings import ATTENTION
from ptqbench.quant.grid import Layout
from ptqbench.quant.layer import QuantizerFactory, StepContext, learns
from ptqbench.quant.plan import SITES, AttentionPlan
from ptqbench.roles.quantizer import Quantizer

CHILD = "attention_sites"
"""The attribute under which an attention module gets its sites."""


@dataclass(frozen=True)
class AttentionCall:
    """The arguments of one call of `scaled_dot_product_attention`, under its own names and with its defaults.

    `query` (B, ..., H, L, E), `key` (B, ..., H, S, E), `value` (B, ..., H, S, V); with `enable_gqa` key and value may have
    fewer heads, which groups of query heads share.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def weights(self) -> Tensor:
        """softmax(scale * q k^T + mask), (B, ..., H, L, S), where a wholly masked row is zero as in torch.

        Vaswani et al., Attention Is All You Need, NeurIPS 2017, equation 1: `scale` is 1 / sqrt(E) unless given.
        Raises `CellFailedError` for what explicit attention does not offer.
        """
        self._refuse()
        scale = 1 / math.sqrt(self.query.shape[-1]) if self.scale is None else self.scale
        logits = (self.query * scale) @ self._every_head(self.key).transpose(-2, -1)
        mask = self._mask(logits)
        if mask is None:
            return torch.softmax(logits, dim=-1)
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
        # The softmax of nothing is 0 / 0, also in its derivative.
        nothing = logits.isneginf().all(-1, keepdim=True)
        return torch.softmax(logits.masked_fill(nothing, 0.0), dim=-1).masked_fill(nothing, 0.0)

    def weighted(self, weights: Tensor) -> Tensor:
        """weights v, (B, ..., H, L, V)."""
        return weights @ self._every_head(self.value)

    def _every_head(self, shared: Tensor) -> Tensor:
        """Keys or values with a copy for each query head."""
        return shared.repeat_interleave(self.query.shape[-3] // shared.shape[-3], dim=-3) if self.enable_gqa else shared

    def _mask(self, logits: Tensor) -> Tensor | None:
        if self.is_causal:
            return torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        return self.attn_mask

    def _refuse(self) -> None:
        if self.dropout_p > 0:
            raise CellFailedError("attention with dropout cannot be quantized", "put the denoiser into eval mode")
        if self.is_causal and self.attn_mask is not None:
            raise CellFailedError("an attention has a mask and is causal too", "put the causal part into the mask")
        if self.query.is_nested:
            raise CellFailedError("attention over nested tensors cannot be quantized", "give the model padded tensors")


class AttentionSites(nn.Module):
    """Up to four activation quantizers of one attention, as children named like their sites; all calls share them.

    Grids per tensor make it equal whether the factor 1 / sqrt(E), or its root, is applied before or after rounding q and k:
    scales absorb it.
    """

    def __init__(self, plan: AttentionPlan, factory: QuantizerFactory, context: StepContext) -> None:
        super().__init__()
        self.plan = plan
        self.context = context
        self.quantize_activations = False
        self.observe_activations = False
        for site in SITES:
            if (spec := plan.spec(site)) is not None:
                self.add_module(site, factory.activation(spec, Layout(None)))

    @property
    def quantizers(self) -> dict[str, Quantizer]:
        """By site; sites in floating point have none."""
        return dict(self.named_children())  # type: ignore[arg-type]

    @property
    def active(self) -> bool:
        """Whether anything is to be seen or rounded here."""
        return (self.quantize_activations or self.observe_activations) and len(self._modules) > 0

    def forward(self, original: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """What `original`, torch's attention, would give for these arguments with its operands on their grids.

        The softmax is spelled out only where its own values are needed: elsewhere torch's kernel runs on rounded q, k and v.
        Raises `CellFailedError` as `AttentionCall.weights` does.
        """
        if not self.active:
            return original(*args, **kwargs)
        given = AttentionCall(*args, **kwargs)
        q, k, v = self._at("q", given.query), self._at("k", given.key), self._at("v", given.value)
        rounded = AttentionCall(q, k, v, given.attn_mask, given.dropout_p, given.is_causal, given.scale, given.enable_gqa)
        if "softmax" in self._modules:
            weights = self._at("softmax", rounded.weights())
            if self.quantize_activations:
                return rounded.weighted(weights)
        return original(**vars(rounded))

    def _at(self, site: str, x: Tensor) -> Tensor:
        """The values x (B, ...) at a site: seen, rounded, both, or left as they are."""
        quantizer = self.quantizers.get(site)
        if quantizer is None:
            return x
        group = self.context.group(quantizer.spec.steps)
        if self.observe_activations:
            quantizer.observe(x, self.context.observed(quantizer.spec.steps, x))
        return self.context.drop(quantizer(x, group), x) if self.quantize_activations else x

    def begin_learning(self, kinds: frozenset[str]) -> None:
        """Let the quantizers whose trainables are of these kinds learn."""
        for quantizer in self.quantizers.values():
            if self.quantize_activations and learns(quantizer, kinds):
                quantizer.begin_learning(None)

    def end_learning(self) -> None:
        """Harden everything that was learning."""
        for quantizer in self.quantizers.values():
            if quantizer.learning:
                quantizer.harden()

    def export(self) -> dict[str, Tensor]:
        """Finished grids by site: "a.q.scale", ..., once ranges are known."""
        return {
            f"a.{site}.{key}": value
            for site, quantizer in self.quantizers.items()
            for key, value in quantizer.export().items()
            if value.numel()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `export`; grids that the state does not have are left alone."""
        for site, quantizer in self.quantizers.items():
            prefix = f"a.{site}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            if own:
                quantizer.restore(own)


_running: ContextVar[AttentionSites | None] = ContextVar(
    "sites of the innermost attention module that is running", default=None
)


class _Replacement(TorchFunctionMode):
    """Sends calls of torch's attention to the sites of the module that makes them."""

    def __init__(self, sites: AttentionSites) -> None:
        super().__init__()
        self.sites = sites

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Attention modules may lie inside each other: a call belongs to the innermost one.
        if func is ATTENTION and _running.get() is self.sites:
            return self.sites(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _with_sites(forward: Callable[..., Any], sites: AttentionSites, /, *args: Any, **kwargs: Any) -> Any:
    token = _running.set(sites)
    try:
        if not sites.active:
            return forward(*args, **kwargs)
        with _Replacement(sites):
            return forward(*args, **kwargs)
    finally:
        _running.reset(token)


def attach(module: nn.Module, sites: AttentionSites) -> None:
    """Make `sites` a child of an attention module, where its trainables get names, and patch this instance's forward."""
    forward = module.forward
    module.add_module(CHILD, sites)
    # A partial and not a closure, for a deep copy of the module to get a forward of its own.
    setattr(module, "forward", update_wrapper(partial(_with_sites, forward, sites), forward))  # noqa: B010
