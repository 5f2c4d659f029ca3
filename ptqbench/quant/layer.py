"""A quantized layer: a convolution or linear layer as a list of input-channel partitions, each with its own grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench.quant.plan import LayerPlan
from ptqbench.quant.standin import StandIn
from ptqbench.quant.steps import step_group
from ptqbench.roles.quantizer import Quantizer


class QuantizerFactory(Protocol):
    """Builds quantizers for a cell: one call for each site and partition."""

    def weight(self, spec: QuantSpec, layout: Layout) -> Quantizer: ...

    def activation(self, spec: QuantSpec, layout: Layout) -> Quantizer: ...


@dataclass
class StepContext:
    """Which sampling step each sample of the current batch is at: `step` (B,) in [0, steps).

    While a unit is fitted, `keep` below 1 leaves each quantized activation element as it was with probability 1 - keep,
    drawn from `generator` (QDrop).
    """

    steps: int = 1
    step: Tensor | None = None
    keep: float = 1.0
    generator: torch.Generator | None = None

    def drop(self, quantized: Tensor, raw: Tensor) -> Tensor:
        """Elements of `quantized`, or of `raw` where quantization is dropped."""
        if self.keep >= 1:
            return quantized
        u = torch.rand(raw.shape, generator=self.generator, device=raw.device, dtype=raw.dtype)
        return torch.where(u < self.keep, quantized, raw)

    def observed(self, groups: int, x: Tensor) -> Tensor | None:
        """The step group of each sample for those who observe x, rows of known samples: zeros where all steps share their
        parameters, so that it is known how many samples there are. None where it is not known."""
        if groups > 1 or self.step is None or len(x) % len(self.step):
            return self.group(groups)
        return torch.zeros_like(self.step)

    def group(self, groups: int) -> Tensor | None:
        """The step group of each sample when steps are divided into equal ranges; None if parameters are shared."""
        if groups == 1 or self.step is None:
            return None
        return step_group(self.step, self.steps, groups)


class Partition(nn.Module):
    """A contiguous range of input channels with a weight and an activation quantizer (either may be absent)."""

    def __init__(self, start: int, stop: int, weight: Quantizer | None, activation: Quantizer | None) -> None:
        super().__init__()
        self.start, self.stop = start, stop
        self.weight = weight
        self.activation = activation


class QuantLayer(StandIn):
    """Wraps a Conv1d, Conv2d or Linear; quantizes its input and its weight in simulation. The bias stays as it is; what else a
    network asks of its layer (`out_channels`, `stride`) is the layer's.

    `baked` holds the quantized weight whenever no weight quantizer of the layer is learning, so that sampling with
    quantized weights costs what full precision costs.
    """

    stands_for = "inner"
    baked: Tensor

    def __init__(self, inner: nn.Module, plan: LayerPlan, factory: QuantizerFactory, context: StepContext) -> None:
        super().__init__()
        self.inner = inner
        self.plan = plan
        self.context = context
        self.quantize_activations = False
        self.observe_activations = False
        self.parts = nn.ModuleList(self._partitions(factory))
        self.register_buffer("baked", torch.empty(0, dtype=torch.float32, device="cpu"), persistent=False)

    def _partitions(self, factory: QuantizerFactory) -> list[Partition]:
        inner, plan = self.inner, self.plan
        channels = int(self.weight.shape[1])
        widths = plan.partitions or (channels,)
        if sum(widths) != channels or (len(widths) > 1 and getattr(inner, "groups", 1) != 1):
            raise CellFailedError(f"{plan.name}: partitions {widths} do not divide its {channels} input channels")
        weight_layout = Layout(0 if plan.weight and plan.weight.per == "channel" else None)
        channel_axis = -1 if isinstance(inner, nn.Linear) else 1
        act_layout = Layout(channel_axis if plan.activation and plan.activation.per == "channel" else None)
        parts, start = [], 0
        for width in widths:
            weight = factory.weight(plan.weight, weight_layout) if plan.weight else None
            activation = factory.activation(plan.activation, act_layout) if plan.activation else None
            parts.append(Partition(start, start + width, weight, activation))
            start += width
        return parts

    @property
    def weight(self) -> Tensor:
        """The full-precision weight (library code reads its dtype)."""
        return self.inner.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        return self.inner.bias  # type: ignore[return-value]

    def partitions(self) -> list[Partition]:
        return list(self.parts)  # type: ignore[arg-type]

    def forward(self, input: Tensor, *_: object) -> Tensor:
        x = self._input(input)
        if self.plan.weight is None:
            # Also where a layer does something of its own with its weight.
            out: Tensor = self.inner(x)
            return out
        return self._apply_to(x, self._weight())

    def _input(self, x: Tensor) -> Tensor:
        if not (self.quantize_activations or self.observe_activations) or self.plan.activation is None:
            return x
        group = self._group(self.plan.activation.steps, x)
        axis = -1 if isinstance(self.inner, nn.Linear) else 1
        pieces = []
        for part in self.partitions():
            piece = x if len(self.parts) == 1 else x.narrow(axis, part.start, part.stop - part.start)
            if self.observe_activations:
                seen = self.context.observed(self.plan.activation.steps, x)
                part.activation.observe(piece, seen)  # type: ignore[union-attr]
            if self.quantize_activations:
                piece = self.context.drop(part.activation(piece, group), piece)  # type: ignore[misc]
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=axis)

    def _group(self, groups: int, x: Tensor) -> Tensor | None:
        """The step group of every row of x. Raises `CellFailedError` where it is not known which sample a row belongs to."""
        group = self.context.group(groups)
        if group is not None and len(group) != len(x):
            # Rows of cat([x, x]), as guidance doubles them, lie in another order than heads: none may be guessed.
            raise CellFailedError(
                f"{self.plan.name} gets {len(x)} rows for {len(group)} samples, and its grid differs between sampling steps: "
                "it is not known which step each row is at",
                "set activations.steps = 1, or let the model's predict() call the denoiser once for each copy of the batch",
            )
        return group

    def _weight(self) -> Tensor:
        return self.baked if self.baked.numel() else self._soft_weight()

    def _soft_weight(self) -> Tensor:
        pieces = [p.weight(self.weight[:, p.start : p.stop]) for p in self.partitions()]  # type: ignore[misc]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _apply_to(self, x: Tensor, weight: Tensor) -> Tensor:
        return product(self.inner, x, weight)

    def find_weight_grids(self) -> None:
        """Ranges of all weight partitions, then rounding to nearest until something better is learned."""
        for part in self.partitions():
            if part.weight is not None:
                part.weight.observe(self.weight[:, part.start : part.stop])
                part.weight.freeze()
        self.bake()

    @torch.no_grad()
    def bake(self) -> None:
        """Compute the quantized weight once, from the codes that `export` gives, as `restore` does."""
        if self.plan.weight is not None:
            pieces = []
            for p in self.partitions():
                if p.weight is not None:
                    pieces.append(self._from_codes(p.weight, p.weight.export(self.weight[:, p.start : p.stop])))
            self.baked = torch.cat(pieces, dim=1)

    def begin_learning(self, kinds: frozenset[str]) -> None:
        """Let the quantizers whose trainables are of these kinds learn."""
        for part in self.partitions():
            if part.weight is not None and learns(part.weight, kinds):
                part.weight.begin_learning(self.weight[:, part.start : part.stop])
                self.baked = torch.empty(0, dtype=torch.float32, device="cpu")
            if part.activation is not None and self.quantize_activations and learns(part.activation, kinds):
                part.activation.begin_learning(None)

    def end_learning(self) -> None:
        """Harden everything that was learning and bake the weight if it was."""
        rebake = False
        for part in self.partitions():
            for quantizer in (part.weight, part.activation):
                if quantizer is not None and quantizer.learning:
                    quantizer.harden()
                    rebake = rebake or quantizer is part.weight
        if rebake:
            self.bake()

    def export(self) -> dict[str, Tensor]:
        """Finished grids by partition: "w.0.codes", "w.0.scale", ..., and "a.0.scale", ... once ranges are known."""
        state: dict[str, Tensor] = {}
        for i, part in enumerate(self.partitions()):
            if part.weight is not None:
                weight = self.weight[:, part.start : part.stop]
                state |= {f"w.{i}.{key}": value for key, value in part.weight.export(weight).items()}
            if part.activation is not None:
                state |= {f"a.{i}.{key}": value for key, value in part.activation.export().items() if value.numel()}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `export`; activation grids that the state does not have are left alone."""
        device = self.weight.device
        pieces = []
        for i, part in enumerate(self.partitions()):
            for prefix, quantizer in ((f"w.{i}.", part.weight), (f"a.{i}.", part.activation)):
                own = {k.removeprefix(prefix): v.to(device) for k, v in state.items() if k.startswith(prefix)}
                if quantizer is None or not own:
                    continue
                quantizer.restore(own)
                if quantizer is part.weight:
                    pieces.append(self._from_codes(quantizer, own))
        if pieces:
            self.baked = torch.cat(pieces, dim=1)

    def _from_codes(self, quantizer: Quantizer, state: Mapping[str, Tensor]) -> Tensor:
        """A partition's quantized weight: (code - z) * s."""
        codes = state["codes"].to(self.weight.dtype)
        scale, zero_point = (quantizer.layout.spread(state[key], codes, None) for key in ("scale", "zero_point"))
        return (codes - zero_point) * scale


def product(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """What a Conv1d, Conv2d or Linear of torch's makes of x with this weight in place of its own."""
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    out: Tensor = layer._conv_forward(x, weight, bias)  # type: ignore[operator]
    return out


def learns(quantizer: Quantizer, kinds: frozenset[str]) -> bool:
    """Whether a quantizer has trainables of one of these kinds."""
    return any(group.kind in kinds for group in quantizer.learnable())
