"""What a quantizer returns: values on a grid of its own, which is the one that it was asked for.

Whether a grid is honoured cannot be seen from its parameters alone. So an activation quantizer whose grid is fixed gets a
probe, a ramp over each row's range and beyond, and what comes back must be levels of that row; weights are looked at as the
codes that `export` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.boundary.call import Call
from ptqbench.boundary.range import check_grid
from ptqbench.boundary.values import check_finite, check_held, check_named, check_tensor, described, held
from ptqbench.roles.quantizer import ParamGroup, Quantizer

WEIGHT = "weight-quantizer"

PROBES = 1024
"""Most values of a probe for each row: four for each level of eight bits."""

_SPANS = "_boundary_spans"


def check_made(call: Call, quantizer: Quantizer) -> None:
    """What a quantizer says of itself before it has seen anything."""
    _learnable(call, quantizer, quantizer.learnable)


def _observe(call: Call, quantizer: Quantizer, observe: Callable[..., None], x: Tensor, group: Tensor | None = None) -> None:
    before = held([("the values", x)])
    observe(x, group)
    check_held(call, before)
    if group is not None:
        _note_spans(quantizer.__dict__.setdefault(_SPANS, {}), x, group)


def _note_spans(spans: dict[int, float], x: Tensor, group: Tensor) -> None:
    """The largest magnitude that each step group showed so far."""
    largest = x.detach().reshape(len(group), -1).abs().amax(1).tolist()
    for slot, size in zip(group.tolist(), largest, strict=True):
        spans[slot] = max(spans.get(slot, 0.0), size)


def _forward(call: Call, _: Quantizer, forward: Callable[..., Tensor], x: Tensor, group: Tensor | None = None) -> Tensor:
    before = held([("the values", x)])
    found = check_tensor(call, "the quantized values", forward(x, group), x.shape, x)
    check_held(call, before)
    if found.dtype != x.dtype:
        raise call.refused(f"made {found.dtype} of {x.dtype}", "quantized values keep their dtype")
    return found


def _freeze(call: Call, quantizer: Quantizer, freeze: Callable[[], None]) -> None:
    freeze()
    check_levels(call, quantizer)
    scale, spans = quantizer.export()["scale"], [size for size in quantizer.__dict__.get(_SPANS, {}).values() if size > 0]
    alike = len(scale) > 1 and torch.equal(scale, scale[:1].expand_as(scale))
    # What learns may well begin from one grid for all.
    if alike and not quantizer.learnable() and max(spans, default=0.0) > 2 * min(spans, default=0.0):
        raise call.refused(
            f"gave all {len(scale)} step groups one grid, and their values differ by a factor of {max(spans) / min(spans):.3g}",
            "the spec asks for a grid for each step group: observe(x, group) says which group a row is in",
        )


def _harden(call: Call, quantizer: Quantizer, harden: Callable[[], None]) -> None:
    harden()
    if quantizer.learning:
        raise call.refused("still learns after harden()", "call super().harden()")
    if quantizer.export()["scale"].numel():
        check_levels(call, quantizer)


@torch.no_grad()
def check_levels(call: Call, quantizer: Quantizer) -> None:
    """An activation quantizer puts a probe on the grid that it exports, each row on its own."""
    if call.owner.role == WEIGHT:
        return
    state, levels = quantizer.export(), quantizer.spec.levels
    scale, zero_point = state["scale"], state["zero_point"]
    group = torch.arange(len(scale), dtype=torch.int64, device=scale.device) if len(scale) > 1 else None
    rows = _ramp(scale, zero_point, levels.low, levels.high)
    found = _as_rows(quantizer(_as_values(rows, quantizer.layout.channel_axis), group), quantizer.layout.channel_axis)
    codes = found.double() / scale[..., None].double() + zero_point[..., None].double()
    # Single precision has codes of 16 bits to within a hundredth.
    off = (codes - codes.round()).abs() > 0.05
    outside = (codes.round() < levels.low) | (codes.round() > levels.high)
    if bool(off.any()):
        between = f"put {int(off.sum())} of {off.numel()} probed values between the levels of its grid"
        raise call.refused(
            between, f"forward() gives (code - zero_point) * scale, at most {1 << levels.bits} levels for each row"
        )
    if bool(outside.any()):
        wide = f"used the codes {int(codes.min().round())}..{int(codes.max().round())}"
        raise call.refused(wide, f"{_grid_words(quantizer)} has {levels.low}..{levels.high}")


def _ramp(scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """Values (K, G, n) from a quarter of the range below each row's least level to as much above its greatest."""
    n = min(4 * (high - low + 1), PROBES)
    codes = torch.linspace(low - (high - low) / 4, high + (high - low) / 4, n, device=scale.device, dtype=torch.float64)
    return ((codes - zero_point[..., None]) * scale[..., None]).to(scale.dtype)


def _as_values(rows: Tensor, axis: int | None) -> Tensor:
    """Rows (K, G, n) as a batch whose channels, if there are any, lie at `axis`."""
    return rows[:, 0] if axis is None else rows if axis == 1 else rows.transpose(1, 2)


def _as_rows(values: Tensor, axis: int | None) -> Tensor:
    return values[:, None] if axis is None else values if axis == 1 else values.transpose(1, 2)


def _grid_words(quantizer: Quantizer) -> str:
    spec = quantizer.spec
    kind = "symmetric " if spec.symmetric else ""
    return f"a {kind}grid of {spec.bits} bits"


def _export(
    call: Call, quantizer: Quantizer, export: Callable[..., Mapping[str, Tensor]], x: Tensor | None = None
) -> dict[str, Tensor]:
    found = check_named(call, "finished parameters", export(x))
    if missing := sorted({"scale", "zero_point"} - set(found)):
        raise call.refused(f"exported no {' and no '.join(missing)}", "export() gives scale and zero_point, (K, G) each")
    if found["scale"].numel():
        table = (quantizer.spec.steps, None)
        check_grid(call, found["scale"], found["zero_point"], quantizer.spec.levels, table, final=not quantizer.learning)
        if found["zero_point"].shape != found["scale"].shape:
            raise call.refused(
                f"exported {described(found['zero_point'])} as zero_point", "it has the shape of the scale, (K, G)"
            )
    if x is not None:
        _check_codes(call, quantizer, found.get("codes"), x)
    return {name: tensor.detach() for name, tensor in found.items()}


def _check_codes(call: Call, quantizer: Quantizer, codes: Any, x: Tensor) -> None:
    if not isinstance(codes, Tensor) or codes.shape != x.shape or codes.is_complex():
        raise call.refused(f"exported {described(codes)} as codes", f"codes have the weight's shape, {tuple(x.shape)}")
    check_finite(call, "codes", codes)
    if codes.is_floating_point() and not torch.equal(codes, codes.round()):
        raise call.refused("exported codes that are no whole numbers", "codes are integers: round them")
    low, high, levels = int(codes.min()), int(codes.max()), quantizer.spec.levels
    if low < levels.low or high > levels.high:
        raise call.refused(f"exported the codes {low}..{high}", f"{_grid_words(quantizer)} has {levels.low}..{levels.high}")


def _learnable(call: Call, quantizer: Quantizer, learnable: Callable[[], Sequence[ParamGroup]]) -> Sequence[ParamGroup]:
    found: Any = learnable()
    if not isinstance(found, list | tuple) or not all(isinstance(group, ParamGroup) for group in found):
        raise call.refused(f"returned {described(found)}", "return a tuple of ptqbench.roles.quantizer.ParamGroup")
    hidden = sorted({group.kind for group in found} - quantizer.offers(quantizer.options))
    if hidden:
        raise call.refused(f"has trainables that it does not offer: {', '.join(hidden)}", "name their kinds in offers()")
    return found


def _begin_learning(call: Call, quantizer: Quantizer, begin: Callable[[Tensor | None], None], x: Tensor | None) -> None:
    begin(x)
    if not quantizer.learning:
        raise call.refused("does not learn after begin_learning()", "call super().begin_learning(x)")
    for group in quantizer.learnable():
        for name in group.names:
            owner, _, attribute = name.rpartition(".")
            found = getattr(quantizer.get_submodule(owner), attribute, None)
            if not isinstance(found, nn.Parameter) or not found.requires_grad:
                raise call.refused(f"names the trainable {name!r}, which is {described(found)}", "make it an nn.Parameter")


def _penalty(call: Call, _: Quantizer, penalty: Callable[..., Tensor | None], *args: Any, **kwargs: Any) -> Tensor | None:
    found = penalty(*args, **kwargs)
    return None if found is None else check_tensor(call, "the penalty", found, ())


CHECKS = {
    "observe": _observe,
    "forward": _forward,
    "freeze": _freeze,
    "harden": _harden,
    "export": _export,
    "learnable": _learnable,
    "begin_learning": _begin_learning,
    "penalty": _penalty,
}
