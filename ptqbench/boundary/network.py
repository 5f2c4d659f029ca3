"""What a network quantizer returns: a module, and grids of layers that the denoiser has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import described
from ptqbench.roles.network import CalibrationCalls, LayerGrids, NetworkQuantizer, QuantizedNetwork


def _quantize(
    call: Call,
    _: NetworkQuantizer,
    quantize: Callable[..., Any],
    denoiser: nn.Module,
    bits: tuple[int, int],
    calibration: CalibrationCalls,
) -> QuantizedNetwork:
    known = {name for name, _ in denoiser.named_modules()}
    found = quantize(denoiser, bits, calibration)
    if not isinstance(found, QuantizedNetwork) or not isinstance(found.module, nn.Module):
        raise call.refused(f"returned {described(found)}", "return a ptqbench.roles.network.QuantizedNetwork")
    layers: Any = found.layers
    if not isinstance(layers, Mapping) or not all(isinstance(value, LayerGrids) for value in layers.values()):
        raise call.refused("says of its layers something else than grids", "layers are LayerGrids by name")
    if unknown := sorted(set(layers) - known):
        raise call.refused(f"names the layer {unknown[0]!r}, which the denoiser does not have", "layers have their old names")
    return found


CHECKS = {"quantize": _quantize}
