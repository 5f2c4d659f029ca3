"""The simulation with ONNX's QuantizeLinear and DequantizeLinear in place of its own arithmetic, for one group of steps.

A convolution or linear layer becomes DequantizeLinear(QuantizeLinear(x)) and DequantizeLinear(codes) round the operator, each
input-channel partition of its own, where that says exactly what the simulation computes: both operands have grids of at most
8 bits, the input's one for the tensor, with a zero point among its codes. Everything else keeps its rounding, spelled out in
floating point.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptqbench.quant.attention import CHILD
from ptqbench.quant.layer import Partition, QuantLayer
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import SITES
from ptqbench.quant.steps import step_group
from ptqbench.roles.quantizer import Quantizer
from ptqbench_deployment.outputs import OutputGrid, OutputGrids

CODE_BITS = 8
"""Activations are uint8, weights int8, whatever bits their grids have."""


@dataclass(frozen=True)
class Rewritten:
    """A network to export: `integer` names the layers with Q/DQ, `narrow` the bits of those whose weights have fewer than 8,
    `spelled` why others keep their rounding in floating point, `outputs` those with output grids, and `apart` those that go
    without because engines could not use them: zero points of their weight differ between channels."""

    module: nn.Module
    integer: tuple[str, ...]
    narrow: Mapping[str, int] = field(default_factory=dict)
    spelled: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    apart: Sequence[str] = ()


def step_sets(q: QuantizedDenoiser) -> list[range]:
    """Ranges of sampling steps at which all grids are the same, in their order: one where no grid depends on the step."""
    sites = [p.activation for p in q.plan.layers] + [a.spec(s) for a in q.plan.attentions for s in SITES]
    groups = sorted({spec.steps for spec in sites if spec is not None})
    steps = q.context.steps
    found: list[range] = []
    last: tuple[int, ...] | None = None
    for step in range(steps):
        now = tuple(step_group(step, steps, n) for n in groups)
        found = [*found[:-1], range(found[-1].start, step + 1)] if now == last else [*found, range(step, step + 1)]
        last = now
    return found


def rewrite(q: QuantizedDenoiser, step: int, outputs: OutputGrids | None = None) -> Rewritten:
    """A copy of the simulation with Q/DQ, its grids those of a sampling step; some outputs may have grids of their own."""
    module = copy.deepcopy(q.module)
    integer: list[str] = []
    narrow: dict[str, int] = {}
    spelled: dict[str, str] = {}
    with_outputs: list[str] = []
    apart: list[str] = []
    for name, layer in q.layers.items():
        plan = layer.plan
        pieces = [_piece(layer, part, step) for part in layer.partitions()]
        wrong = [piece for piece in pieces if isinstance(piece, str)]
        parent, _, attribute = name.rpartition(".")
        if wrong:
            spelled |= {name: wrong[0]} if plan.weight or plan.activation else {}
            new: nn.Module = SpelledOut(layer, step)
        else:
            integer.append(name)
            narrow |= {name: plan.weight.bits} if plan.weight and plan.weight.bits < CODE_BITS else {}
            right = [piece for piece in pieces if not isinstance(piece, str)]
            ours = (outputs or {}).get(name, ())
            if ours and any(len(piece.zero.unique()) > 1 for piece in right):
                apart, ours = [*apart, name], ()
            with_outputs += [name] if ours else []
            new = Integer(layer, right, ours)
        setattr(module.get_submodule(parent), attribute, new)
    for name, attention in q.attentions.items():
        sites = module.get_submodule(name).get_submodule(CHILD)
        for site, quantizer in attention.quantizers.items():
            setattr(sites, site, Rounding(quantizer, step, q.context.steps))
    return Rewritten(module.eval(), tuple(integer), narrow, spelled, with_outputs, apart)


@dataclass(frozen=True)
class Grid:
    """An input's grid for all of its values: scale, zero point and highest code, codes counted from 0."""

    scale: Tensor
    zero: Tensor
    highest: int


@dataclass(frozen=True)
class Piece:
    """A partition of a layer: the input channels [start, stop), their grid, and the weight's codes (int8), scales and zero
    points (O,) or ()."""

    start: int
    stop: int
    grid: Grid
    codes: Tensor
    scale: Tensor
    zero: Tensor


def _piece(layer: QuantLayer, part: Partition, step: int) -> Piece | str:
    """What Q/DQ need of a partition, or why they cannot say what the simulation computes."""
    if part.weight is None or part.activation is None:
        return f"its {'input' if part.activation is None else 'weight'} has no grid"
    if max(part.weight.spec.bits, part.activation.spec.bits) > CODE_BITS:
        return "one of its grids has more than 8 bits"
    grid = _input_grid(part.activation, step, layer.context.steps)
    if isinstance(grid, str):
        return grid
    state = part.weight.export(layer.weight[:, part.start : part.stop])
    scale, zero = (state[key][0] for key in ("scale", "zero_point"))
    codes = state["codes"].to(torch.int32)
    shaped = zero.to(torch.int32).reshape(-1, *[1] * (codes.dim() - 1))
    for shift in (shaped, torch.full_like(shaped, 2 ** (CODE_BITS - 1))):
        moved, origin = codes - shift, (shaped - shift).flatten()
        if all(int(x.min()) >= -128 and int(x.max()) <= 127 for x in (moved, origin)) and zero.equal(zero.round()):
            alone = part.weight.layout.channel_axis is None
            found = (x.squeeze() if alone else x for x in (scale, origin.to(torch.int8)))
            return Piece(part.start, part.stop, grid, moved.to(torch.int8), *found)
    return "the zero points of its weight are no codes"


def _input_grid(quantizer: Quantizer, step: int, steps: int) -> Grid | str:
    spec = quantizer.spec
    if spec.per != "tensor":
        return "its input has a grid for each channel"
    scale, zero = _at(quantizer, step, steps)
    code = zero - spec.levels.low
    if not code.equal(code.round()) or not 0 <= float(code) < 2**CODE_BITS:
        return f"the zero point {float(zero):.4g} of its input is no code"
    return Grid(scale.squeeze(), code.to(torch.uint8).squeeze(), spec.levels.high - spec.levels.low)


def _at(quantizer: Quantizer, step: int, steps: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point (G,) at a sampling step."""
    state = quantizer.export()
    groups = len(state["scale"])
    row = step_group(step, steps, groups)
    return state["scale"][row].detach(), state["zero_point"][row].detach()


def _node(kind: str, inputs: Sequence[Tensor], shape: Sequence[int], dtype: torch.dtype, **attributes: int) -> Tensor:
    """A node of the graph that torch is tracing."""
    from torch.onnx.ops import symbolic  # younger than the oldest torch that all else runs on

    return symbolic(kind, inputs, {**attributes}, dtype=dtype, shape=shape)


class Through(nn.Module):
    """x on a grid by QuantizeLinear and DequantizeLinear; where a byte has more codes than the grid, clipped before."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("scale", grid.scale.clone())
        self.register_buffer("zero", grid.zero.clone())
        zero, scale = float(grid.zero), float(grid.scale)
        self.ends = None if grid.highest == 2**CODE_BITS - 1 else (-zero * scale, (grid.highest - zero) * scale)

    def forward(self, x: Tensor, group: Tensor | None = None) -> Tensor:
        if self.ends is not None:
            x = x.clamp(*self.ends)
        scale, zero = self.get_buffer("scale"), self.get_buffer("zero")
        codes = _node("QuantizeLinear", (x, scale, zero), x.shape, torch.uint8)
        return _node("DequantizeLinear", (codes, scale, zero), x.shape, torch.float32)


class Spelled(nn.Module):
    """x on a grid in floating point: s (clamp(round(x / s) + z, low, high) - z)."""

    def __init__(self, quantizer: Quantizer, step: int, steps: int) -> None:
        super().__init__()
        scale, zero = _at(quantizer, step, steps)
        self.layout, self.levels = quantizer.layout, quantizer.spec.levels
        self.register_buffer("scale", scale[None].clone())
        self.register_buffer("zero", zero[None].clone())

    def forward(self, x: Tensor, group: Tensor | None = None) -> Tensor:
        scale, zero = (self.layout.spread(table, x, None) for table in (self.get_buffer("scale"), self.get_buffer("zero")))
        return (torch.clamp(torch.round(x / scale) + zero, self.levels.low, self.levels.high) - zero) * scale


class Rounding(nn.Module):
    """A site of an attention: what its quantizer does, under the attributes that `AttentionSites` reads."""

    def __init__(self, quantizer: Quantizer, step: int, steps: int) -> None:
        super().__init__()
        grid = _input_grid(quantizer, step, steps) if quantizer.spec.bits <= CODE_BITS else ""
        self.spec = replace(quantizer.spec, steps=1)
        self.through = Spelled(quantizer, step, steps) if isinstance(grid, str) else Through(grid)

    def forward(self, x: Tensor, group: Tensor | None = None) -> Tensor:
        out: Tensor = self.through(x)
        return out


class Integer(nn.Module):
    """A layer between Q/DQ: the sum over its partitions, each with grids of its own, `outputs` those of their products."""

    def __init__(self, layer: QuantLayer, pieces: Sequence[Piece], outputs: Sequence[OutputGrid] = ()) -> None:
        super().__init__()
        self.inner, self.linear, self.outputs = layer.inner, isinstance(layer.inner, nn.Linear), len(outputs) > 0
        self.ranges = [(piece.start, piece.stop) for piece in pieces]
        self.inputs = nn.ModuleList(Through(piece.grid) for piece in pieces)
        for i, piece in enumerate(pieces):
            # x W^T with W^T stored: a transpose between the codes and the product would hide them from engines.
            codes = piece.codes.t().contiguous() if self.linear else piece.codes
            scale, zero, bias = piece.scale, piece.zero, None if i else layer.bias
            if self.outputs:
                grid = outputs[i]
                scale, zero = scale / grid.scale, zero.expand(len(grid.scale))
                bias = grid.zero if bias is None else bias / grid.scale + grid.zero
                self.register_buffer(f"out_scale{i}", grid.scale.clone())
                self.register_buffer(f"out_zero{i}", grid.zero.to(torch.uint8))
            for name, value in (("codes", codes), ("scale", scale), ("zero", zero), ("bias", bias)):
                self.register_buffer(f"{name}{i}", None if value is None else value.detach().clone())
        self.register_buffer("one", torch.ones(()))
        self.register_buffer("origin", torch.zeros((), dtype=torch.uint8))

    def forward(self, x: Tensor, *_: object) -> Tensor:
        out: Tensor | None = None
        for i, (start, stop) in enumerate(self.ranges):
            piece = x if len(self.ranges) == 1 else x.narrow(-1 if self.linear else 1, start, stop - start)
            term = self._product(self.inputs[i](piece), self._weight(i), getattr(self, f"bias{i}"))
            term = self._on_output_grid(term, i) if self.outputs else term
            out = term if out is None else out + term
        assert out is not None
        return out

    def _weight(self, i: int) -> Tensor:
        codes, scale, zero = (self.get_buffer(f"{name}{i}") for name in ("codes", "scale", "zero"))
        axis = {"axis": 1 if self.linear else 0} if scale.dim() else {}
        return _node("DequantizeLinear", (codes, scale, zero), codes.shape, torch.float32, **axis)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.linear:
            out = torch.matmul(x, weight)
            return out if bias is None else out + bias
        found: Tensor = self.inner._conv_forward(x, weight, bias)  # type: ignore[operator]
        return found

    def _on_output_grid(self, x: Tensor, i: int) -> Tensor:
        """Whole numbers, scales and zero points being in weight and bias, back to what they stand for."""
        codes = _node("QuantizeLinear", (x, self.get_buffer("one"), self.get_buffer("origin")), x.shape, torch.uint8)
        scale, zero = self.get_buffer(f"out_scale{i}"), self.get_buffer(f"out_zero{i}")
        return _node("DequantizeLinear", (codes, scale, zero), x.shape, torch.float32, axis=1)


class SpelledOut(nn.Module):
    """A layer with its rounded weight, and the rounding of its input, if it has any, in floating point."""

    def __init__(self, layer: QuantLayer, step: int) -> None:
        super().__init__()
        self.inner = layer.inner
        self.register_buffer("weight", (layer.weight if layer.plan.weight is None else layer.baked).detach().clone())
        parts, steps = layer.partitions(), layer.context.steps
        on = layer.quantize_activations and layer.plan.activation is not None
        self.widths = [part.stop - part.start for part in parts]
        self.inputs = nn.ModuleList(Spelled(p.activation, step, steps) for p in parts if on and p.activation is not None)

    def forward(self, x: Tensor, *_: object) -> Tensor:
        linear = isinstance(self.inner, nn.Linear)
        if len(self.inputs) > 0:
            axis = -1 if linear else 1
            pieces = x.split(self.widths, dim=axis) if len(self.widths) > 1 else (x,)
            x = torch.cat([rounded(piece) for rounded, piece in zip(self.inputs, pieces, strict=True)], dim=axis)
        weight, bias = self.get_buffer("weight"), self.inner.bias
        if linear:
            return F.linear(x, weight, bias)  # type: ignore[arg-type]
        found: Tensor = self.inner._conv_forward(x, weight, bias)  # type: ignore[operator]
        return found
