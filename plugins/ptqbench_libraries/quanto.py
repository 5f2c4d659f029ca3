"""optimum-quanto: symmetric weights per output channel, int4 in groups; static int8 activations per tensor."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ptqbench.process.snapshot import undisturbed
from ptqbench.quant.grid import QuantSpec
from ptqbench.roles.network import CalibrationCalls, LayerGrids, NetworkQuantizer, QuantizedNetwork
from ptqbench_libraries.bits import setting_for

FLOAT = 32


class Quanto(NetworkQuantizer):
    """`quantize`, its `Calibration` over all samples where activations are quantized, `freeze`."""

    packages, extra = ("optimum-quanto",), "quanto"

    def quantize(self, denoiser: nn.Module, bits: tuple[int, int], calibration: CalibrationCalls) -> QuantizedNetwork:
        """Weights alone are put back in floating point, on their grid: quanto would do that in every call, and compile code
        for it."""
        known = {
            (8, 8): ("qint8", "qint8"),
            (8, FLOAT): ("qint8", None),
            (4, FLOAT): ("qint4", None),
            (4, 8): ("qint4", "qint8"),
        }
        plain = copy.deepcopy(denoiser)
        names = setting_for("quanto", known, bits)
        with undisturbed():
            from optimum import quanto
            from optimum.quanto.library import disable_extensions
            from optimum.quanto.nn import QModuleMixin

            weights, activations = (getattr(quanto, name) if name else None for name in names)
            with disable_extensions():
                quanto.quantize(denoiser, weights=weights, activations=activations)
                if activations is not None:
                    with quanto.Calibration():
                        calibration.feed(denoiser)
                quanto.freeze(denoiser)
                found = {name: module for name, module in denoiser.named_modules() if isinstance(module, QModuleMixin)}
                layers = {name: _grids(module, bits) for name, module in found.items()}
                if activations is not None:
                    return QuantizedNetwork(denoiser, layers)
                with torch.no_grad():
                    for name, module in found.items():
                        plain.get_submodule(name).get_parameter("weight").copy_(module.weight.dequantize())
        return QuantizedNetwork(plain, layers)


def _grids(module: Any, bits: tuple[int, int]) -> LayerGrids:
    if module.weight_qtype is None:
        return LayerGrids(None, None, why="quanto left it in floating point")
    scales = int(module.weight._scale.numel())
    inputs = QuantSpec(bits[1], "tensor", symmetric=True) if module.activation_qtype is not None else None
    groups = scales > module.weight.shape[0]
    weight = QuantSpec(bits[0], "channel", symmetric=bits[0] == 8)
    return LayerGrids(weight, inputs, scales, f"{scales} groups of weights with a scale each" if groups else "")
