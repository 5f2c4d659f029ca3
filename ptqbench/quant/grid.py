"""Uniform grids: specification, levels, fake quantization, and how tensors map to rows of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

SCALE_FLOOR = 1e-8
"""Smallest scale, so that a constant channel never divides by zero."""


@dataclass(frozen=True)
class QuantSpec:
    """What a site's grid is: bits, granularity and symmetry. Which plugin quantizes is the method's choice.

    `steps` is the number of step groups with parameters of their own: 1 shares them over all sampling steps. `nonnegative`
    says that the site has no values below zero: its zero point is 0, and no level is spent elsewhere. Raises `ValueError`
    for a symmetric grid of such a site.
    """

    bits: int
    per: Literal["tensor", "channel"] = "tensor"
    symmetric: bool = False
    steps: int = 1
    nonnegative: bool = False

    def __post_init__(self) -> None:
        if self.symmetric and self.nonnegative:
            raise ValueError("a symmetric grid would spend half of its levels below zero, where this site has no values")

    @property
    def levels(self) -> Levels:
        return Levels(self.bits, self.symmetric, self.nonnegative)


@dataclass(frozen=True)
class Levels:
    """Integer codes of a grid: 0..2^b-1, or -2^(b-1)..2^(b-1)-1 when symmetric. `nonnegative` fixes the zero point at 0."""

    bits: int
    symmetric: bool = False
    nonnegative: bool = False

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.symmetric else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - 1 if self.symmetric else self.bits)) - 1

    @property
    def dtype(self) -> torch.dtype:
        """That of codes: int16, which 15 unsigned bits fill."""
        return torch.int16 if self.high < 1 << 15 else torch.int32

    def codes(self, numbers: Tensor) -> Tensor:
        """Whole numbers, zero point included, as codes: those beyond the ends are the ends."""
        return numbers.clamp(self.low, self.high).to(self.dtype)

    def from_range(self, lo: Tensor, hi: Tensor, *, include_zero: bool = True) -> tuple[Tensor, Tensor]:
        """Scale and zero point that cover [lo, hi].

        Asymmetric: s = (hi - lo) / (2^b - 1), z = round(-lo / s). Symmetric: s = max(|lo|, |hi|) / (2^(b-1) - 1),
        z = 0. Nonnegative: s = hi / (2^b - 1), z = 0. Zero stays representable unless `include_zero` is off (padding needs
        an exact zero).
        """
        if self.symmetric:
            scale = torch.maximum(lo.abs(), hi.abs()) / self.high
            return scale.clamp_min(SCALE_FLOOR), torch.zeros_like(scale)
        if self.nonnegative:
            lo = torch.zeros_like(lo)
        if include_zero:
            lo, hi = lo.clamp_max(0), hi.clamp_min(0)
        scale = ((hi - lo) / (self.high - self.low)).clamp_min(SCALE_FLOOR)
        return scale, torch.round(-lo / scale)


def round_through(x: Tensor) -> Tensor:
    """Round half to even with the identity as gradient (straight-through estimator), for both derivative modes."""
    still = x.detach()
    return x + (torch.round(still) - still)


def clamp_inclusive(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp with gradient 1 wherever low <= x <= high; at the ends torch's own gives 1, 0.5 or 0, by version and kind.

    The ends are levels of the grid like any other, and values that round to them are not clipped.
    """
    clamped = x.detach().clamp(low, high)
    return torch.where(clamped == x, x, clamped)


def clamp_gradient(grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """What `clamp_inclusive` sends back to x: `grad` where low <= x <= high, else 0. One pass, where masks take four."""
    below, above = _neighbours(low, high, x.dtype)
    return torch.ops.aten.hardtanh_backward(grad, x, below, above)


@cache
def _neighbours(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    """The greatest number below `low` and the least above `high`, since torch's own ends lie outside."""
    ends = torch.tensor([low, high], dtype=dtype, device="cpu")
    beyond = torch.tensor([-torch.inf, torch.inf], dtype=dtype, device="cpu")
    below, above = torch.nextafter(ends, beyond).tolist()
    return below, above


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels) -> Tensor:
    """s * (clamp(round(x / s) + z, low, high) - z), differentiable in x and s by the straight-through estimator.

    In inference mode the same operations run in place: on a CPU over ten times as fast as torch's fused kernel, which also
    writes a mask. (Forward-mode derivatives may be asked for without gradients, so that is not a sign.) A single zero point
    moves the ends there instead of the codes, which are whole numbers: two passes less. (An accelerator would be waited for.)
    """
    if torch.is_inference_mode_enabled():
        codes = torch.div(x, scale).round_()
        if zero_point.numel() == 1 and zero_point.device.type == "cpu":
            z = float(zero_point)
            return codes.clamp_(levels.low - z, levels.high - z).mul_(scale)
        return codes.add_(zero_point).clamp_(levels.low, levels.high).sub_(zero_point).mul_(scale)
    codes = clamp_inclusive(round_through(x / scale) + zero_point, levels.low, levels.high)
    return (codes - zero_point) * scale


def codes_of(x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels) -> Tensor:
    """Integer codes of x on the grid, to nearest."""
    return levels.codes(torch.round(x / scale) + zero_point)


def group_of_rows(group: Tensor, x: Tensor) -> Tensor:
    """The step group of every row of x, from that of every sample, whose k rows follow each other (attention heads).

    Raises `ValueError` if rows do not divide.
    """
    repeats, rest = divmod(x.shape[0], group.shape[0])
    if rest:
        raise ValueError(f"{x.shape[0]} rows do not divide into {group.shape[0]} samples: which step is each row?")
    return group.repeat_interleave(repeats)


@dataclass(frozen=True)
class Layout:
    """How a site's tensor maps to rows of parameters: one row per tensor, or one per index of `channel_axis`."""

    channel_axis: int | None = None

    def rows(self, x: Tensor) -> Tensor:
        """x as (G, n), a row for each scale."""
        if self.channel_axis is None:
            return x.reshape(1, -1)
        return x.movedim(self.channel_axis, 0).flatten(1)

    def period(self, x: Tensor) -> int:
        """After how many values of a row of x (..., n) the same place along its last axis comes again: n, but for axes of 1."""
        shape = x.shape if self.channel_axis is None else x.movedim(self.channel_axis, 0).shape[1:]
        return next((size for size in reversed(shape) if size > 1), 1)

    def spread(self, parameter: Tensor, x: Tensor, group: Tensor | None) -> Tensor:
        """A parameter table (K, G) as something that broadcasts over x (B, ...).

        With several step groups each row of x takes the table row of its own group, so batches may mix timesteps. When
        x has k rows for each sample, they follow each other, as heads of attention do that were moved into the batch.
        """
        shape = [1] * x.dim()
        if self.channel_axis is not None:
            shape[self.channel_axis] = parameter.shape[1]
        if parameter.shape[0] == 1:
            return parameter[0].reshape(shape)
        if group is None:
            raise ValueError("a quantizer with parameters per step was called without a step")
        shape[0] = x.shape[0]
        return parameter[group_of_rows(group, x)].reshape(shape)
