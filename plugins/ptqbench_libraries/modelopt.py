"""NVIDIA Model Optimizer: rounding in floating point, with its default settings."""

from __future__ import annotations

from typing import Any

from torch import nn

from ptqbench.errors import CellFailedError
from ptqbench.process.snapshot import undisturbed
from ptqbench.quant.grid import QuantSpec
from ptqbench.roles.network import CalibrationCalls, LayerGrids, NetworkQuantizer, QuantizedNetwork
from ptqbench_libraries.bits import setting_for

FLOAT = 32


class Modelopt(NetworkQuantizer):
    """`mtq.quantize` with INT8_DEFAULT_CFG (largest values, weights per channel) or INT4_BLOCKWISE_WEIGHT_ONLY_CFG."""

    packages, extra = ("nvidia-modelopt",), "modelopt"

    def quantize(self, denoiser: nn.Module, bits: tuple[int, int], calibration: CalibrationCalls) -> QuantizedNetwork:
        """Layers are as the library's own quantizers say."""
        known = {(8, 8): "INT8_DEFAULT_CFG", (4, FLOAT): "INT4_BLOCKWISE_WEIGHT_ONLY_CFG"}
        name = setting_for("modelopt", known, bits)
        with undisturbed():
            try:
                import modelopt.torch.quantization as mtq
            except ImportError as error:
                raise CellFailedError(f"modelopt cannot be imported: {error}", 'pip install "ptqbench[modelopt]"') from error
            made = mtq.quantize(denoiser, getattr(mtq, name), forward_loop=calibration.feed)
            layers = {n: _grids(m) for n, m in made.named_modules() if hasattr(m, "weight_quantizer")}
        return QuantizedNetwork(made, {n: grids for n, grids in layers.items() if grids.weight is not None})


def _grids(module: Any) -> LayerGrids:
    weight, activation = module.weight_quantizer, module.input_quantizer
    amax = getattr(weight, "amax", None)
    scales = 1 if amax is None else int(amax.numel())
    return LayerGrids(_spec(weight, "channel"), _spec(activation, "tensor"), scales)


def _spec(quantizer: Any, per: Any) -> QuantSpec | None:
    return QuantSpec(int(quantizer.num_bits), per, symmetric=True) if quantizer.is_enabled else None
