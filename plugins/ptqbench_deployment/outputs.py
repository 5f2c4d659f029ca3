"""Grids for what convolutions give, where an engine has convolutions from integers to integers only.

The simulation knows none: they are the export's own, from what the simulated convolutions give on calibration states, one for
each output channel, and their rounding comes on top of the cell's. Each channel's scale goes into the weight's and its zero
point into the bias, so that the operator itself rounds to whole numbers and one DequantizeLinear has all channels' grids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptqbench.quant.grid import Levels
from ptqbench.quant.layer import QuantLayer
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.roles.exporter import Deployable, Inputs

LEVELS = Levels(8)

FLAT = 1e-3
"""A channel's scale is at least this part of its layer's largest: one that hardly moved on calibration states may elsewhere."""


@dataclass(frozen=True)
class OutputGrid:
    """Scales and whole zero points (O,) of a convolution's output channels; codes are 0 to 255."""

    scale: Tensor
    zero: Tensor

    def rounded(self, x: Tensor) -> Tensor:
        """x (B, O, ...) on the grid."""
        scale, zero = (table.reshape(-1, *[1] * (x.dim() - 2)) for table in (self.scale, self.zero))
        return (torch.clamp(torch.round(x / scale) + zero, LEVELS.low, LEVELS.high) - zero) * scale


OutputGrids = Mapping[str, Sequence[OutputGrid]]
"""By layer, one for each of its partitions, whose products are added."""


def output_grids(cell: Deployable, steps: range) -> dict[str, list[OutputGrid]]:
    """Of every convolution whose operands both have grids, from the extrema on calibration states of these steps."""
    ends: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def note(name: str, terms: list[Tensor]) -> None:
        found = [(t.transpose(0, 1).flatten(1).amin(1), t.transpose(0, 1).flatten(1).amax(1)) for t in terms]
        before = ends.get(name, found)
        ends[name] = [(torch.minimum(a, c), torch.maximum(b, d)) for (a, b), (c, d) in zip(found, before, strict=True)]

    with _on_products(cell.quantized, note):
        for given in cell.calibration(steps):
            cell.simulated(given)
    return {name: [_grid(low, high) for low, high in terms] for name, terms in ends.items()}


def affordable(cell: Deployable, grids: OutputGrids, steps: range, least: float) -> OutputGrids:
    """As many of the grids as agree with the simulation to `least` dB together, those first that cost least for what their
    layer multiplies; errors of layers are taken to add up."""
    given = next(iter(cell.calibration(steps)))
    wanted = cell.simulated(given)
    macs = {layer.name: layer.macs for layer in cell.probe.layers}

    def noise(name: str) -> float:
        return float((simulated_with(cell, {name: grids[name]}, given) - wanted).double().square().sum())

    costs = {name: noise(name) for name in grids}
    left = float(wanted.double().square().sum()) * 10 ** (-least / 10)
    kept = set()
    for name in sorted(costs, key=lambda name: costs[name] / macs[name]):
        if costs[name] <= left:
            kept.add(name)
            left -= costs[name]
    return {name: grid for name, grid in grids.items() if name in kept}


def _grid(low: Tensor, high: Tensor) -> OutputGrid:
    scale, _ = LEVELS.from_range(low, high)
    scale = scale.clamp_min(FLAT * scale.max())
    return OutputGrid(scale, torch.round(-low.clamp_max(0) / scale))


def simulated_with(cell: Deployable, grids: OutputGrids, given: Inputs) -> Tensor:
    """What the simulation would give if it rounded these outputs too."""

    def round_all(name: str, terms: list[Tensor]) -> Tensor | None:
        if name not in grids:
            return None
        return torch.stack([grid.rounded(term) for grid, term in zip(grids[name], terms, strict=True)]).sum(0)

    with _on_products(cell.quantized, round_all):
        return cell.simulated(given)


@contextmanager
def _on_products(q: QuantizedDenoiser, see: Callable[[str, list[Tensor]], Tensor | None]) -> Iterator[None]:
    """Meanwhile `see(name, terms)` gets the product of each partition of each convolution on grids, (B, O, ...), the bias in
    the first, and may give another sum."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor | None]:
        def run(layer: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor | None:
            assert isinstance(layer, QuantLayer)
            return see(name, _terms(layer, args[0], out))

        return run

    on_grids = {
        name: layer
        for name, layer in q.layers.items()
        if not isinstance(layer.inner, nn.Linear) and layer.plan.weight is not None and layer.plan.activation is not None
    }
    handles = [layer.register_forward_hook(hook(name)) for name, layer in on_grids.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _terms(layer: QuantLayer, x: Tensor, out: Tensor) -> list[Tensor]:
    parts = layer.partitions()
    if len(parts) == 1:
        return [out]
    found = []
    for i, part in enumerate(parts):
        assert part.activation is not None
        given = x.narrow(1, part.start, part.stop - part.start)
        given = part.activation(given, layer.context.group(part.activation.spec.steps))
        bias = None if i else layer.bias
        found.append(layer.inner._conv_forward(given, layer.baked[:, part.start : part.stop], bias))  # type: ignore[operator]
    return found
