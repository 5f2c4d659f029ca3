"""Weights rounded to nearest by torch alone, as a library might do it."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from ptqbench import Component, Options, hookimpl
from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec
from ptqbench.roles.network import CalibrationCalls, LayerGrids, NetworkQuantizer, QuantizedNetwork


class ExampleOptions(Options):
    """What a recipe may set."""

    skip: tuple[str, ...] = Field((), description="layers that stay in full precision")


class Example(NetworkQuantizer):
    """A symmetric grid for each output channel; activations stay as they are."""

    options: ExampleOptions

    def quantize(self, denoiser: nn.Module, bits: tuple[int, int], calibration: CalibrationCalls) -> QuantizedNetwork:
        """`calibration.feed(denoiser)` shows all samples to whatever observes the denoiser."""
        if bits[0] == 32:
            raise CellFailedError("this library quantizes weights", "choose bits for them, such as W4A32")
        top, layers = 2 ** (bits[0] - 1) - 1, {}
        for name, module in denoiser.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and name not in self.options.skip:
                with torch.no_grad():
                    flat = module.weight.flatten(1)
                    scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-8) / top
                    module.weight.copy_(((flat / scale).round() * scale).reshape(module.weight.shape))
                layers[name] = LayerGrids(QuantSpec(bits[0], "channel", symmetric=True), None, scales=len(scale))
        return QuantizedNetwork(denoiser, layers)


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("network-quantizer", "example", "weights to nearest", Example, ExampleOptions)]
