"""optimum-quanto: symmetric weights per output channel, int4 in groups; static int8 activations per tensor, of the inputs of
linear layers and of outputs that products read."""

from __future__ import annotations

import copy
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from ptqbench.process.snapshot import undisturbed
from ptqbench.quant.grid import QuantSpec
from ptqbench.roles.network import CalibrationCalls, LayerGrids, NetworkQuantizer, QuantizedNetwork
from ptqbench_libraries.bits import setting_for

FLOAT = 32


class Quanto(NetworkQuantizer):
    """`quantize`, its `Calibration` over all samples where activations are quantized, `freeze`."""

    packages, extra = ("optimum-quanto",), "quanto"

    def quantize(self, denoiser: nn.Module, bits: tuple[int, int], calibration: CalibrationCalls) -> QuantizedNetwork:
        """Weights alone are put back in floating point, on their grid, once: quanto would do that in every call."""
        known = {
            (8, 8): ("qint8", "qint8"),
            (8, FLOAT): ("qint8", None),
            (4, FLOAT): ("qint4", None),
        }
        plain = copy.deepcopy(denoiser)
        names = setting_for("quanto", known, bits)
        with undisturbed():
            from optimum import quanto
            from optimum.quanto.nn import QModuleMixin
            from optimum.quanto.tensor.packed import PackedTensor

            weights, activations = (getattr(quanto, name) if name else None for name in names)
            # quanto's own operator compiles C++ when it is first asked.
            with mock.patch.object(PackedTensor, "unpack", _unpacked):
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


def _unpacked(packed: Any) -> Tensor:
    """The codes of a tensor of four-bit codes: the lower halves of its bytes, then the upper ones."""
    return torch.cat([packed._data & 15, packed._data >> 4])[: packed.shape[0]]


def _grids(module: Any, bits: tuple[int, int]) -> LayerGrids:
    if module.weight_qtype is None:
        return LayerGrids(None, None, why="quanto left it in floating point")
    scales = int(module.weight._scale.numel())
    # Inputs of convolutions are never rounded; outputs are, unless what follows has no use for integers.
    on = module._quantize_hooks if module.activation_qtype is not None else {}
    inputs = QuantSpec(bits[1], "tensor", symmetric=True) if "input" in on else None
    why = [f"{scales} groups of weights with a scale each"] if scales > module.weight.shape[0] else []
    why += ["its output has a grid"] if "output" in on else []
    return LayerGrids(QuantSpec(bits[0], "channel", symmetric=bits[0] == 8), inputs, scales, "; ".join(why))
