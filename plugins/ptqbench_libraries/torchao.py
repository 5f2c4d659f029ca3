"""torchao: linear layers only, so that a UNet's convolutions stay in full precision."""

from __future__ import annotations

from torch import nn

from ptqbench.process.snapshot import undisturbed
from ptqbench.quant.grid import QuantSpec
from ptqbench.roles.network import CalibrationCalls, LayerGrids, NetworkQuantizer, QuantizedNetwork
from ptqbench_libraries.bits import setting_for

FLOAT = 32


class Torchao(NetworkQuantizer):
    """`quantize_` with the library's own settings. Activations have a grid for each token, found anew in every call: nothing
    is calibrated."""

    packages, extra = ("torchao",), "torchao"

    def quantize(self, denoiser: nn.Module, bits: tuple[int, int], calibration: CalibrationCalls) -> QuantizedNetwork:
        """int8 activations are multiplied as integers; weights alone are put back in floating point in every call."""
        with undisturbed():
            import torch
            from torchao import quantization as ao

            known = {
                (8, 8): lambda: ao.Int8DynamicActivationInt8WeightConfig(),
                (8, FLOAT): lambda: ao.Int8WeightOnlyConfig(),
                (4, FLOAT): lambda: ao.IntxWeightOnlyConfig(weight_dtype=torch.int4),  # type: ignore[attr-defined]
            }
            before = {name: module.weight for name, module in denoiser.named_modules() if isinstance(module, nn.Linear)}
            ao.quantize_(denoiser, setting_for("torchao", known, bits)())
            made = [name for name, weight in before.items() if denoiser.get_submodule(name).weight is not weight]
        inputs = None if bits[1] == FLOAT else QuantSpec(bits[1], "tensor", symmetric=True)
        why = "" if inputs is None else "its input has a grid for each token, found in each call"
        layers = {
            name: LayerGrids(QuantSpec(bits[0], "channel", symmetric=True), inputs, before[name].shape[0], why) for name in made
        }
        return QuantizedNetwork(denoiser, layers, executed=inputs is not None)
