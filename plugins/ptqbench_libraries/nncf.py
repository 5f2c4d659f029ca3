"""NNCF, the quantizer of OpenVINO: static grids, and biases corrected by its own means, as its defaults have it."""

from __future__ import annotations

import inspect
import io
import logging
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

from torch import nn

from ptqbench.process.snapshot import undisturbed
from ptqbench.quant.grid import QuantSpec
from ptqbench.roles.network import CalibrationCalls, LayerGrids, NetworkQuantizer, QuantizedNetwork
from ptqbench_libraries.bits import setting_for

FLOAT = 32
LAYERS = ("conv1d", "conv2d", "linear")
QUANTIZERS = ("symmetric_quantize", "asymmetric_quantize")


class Nncf(NetworkQuantizer):
    """`nncf.quantize` with the whole calibration set, or `nncf.compress_weights`: INT8_ASYM, and INT4_SYM, which gives four
    bits to linear layers alone."""

    packages, extra = ("nncf",), "nncf"

    def quantize(self, denoiser: nn.Module, bits: tuple[int, int], calibration: CalibrationCalls) -> QuantizedNetwork:
        """Grids are where the library put them: most on outputs, one for all that read it."""
        known: dict[tuple[int, int], tuple[str, int | None]] = {
            (8, 8): ("", None),
            (8, FLOAT): ("INT8_ASYM", None),
            (4, FLOAT): ("INT4_SYM", -1),  # a scale for each output channel
        }
        mode, group = setting_for("nncf", known, bits)
        signature = inspect.signature(denoiser.forward)
        calls = [dict(signature.bind(*args, **kwargs).arguments) for args, kwargs in calibration.arguments(denoiser)]
        # It says how it is used to a server of its maker's, unless it takes itself to be under test; bars go to the terminal.
        with undisturbed(), mock.patch.dict(os.environ, NNCF_CI="1"), redirect_stdout(io.StringIO()):
            import nncf
            from nncf.torch.quantization.extensions import QuantizedFunctionsCPU
            from nncf.torch.quantization.reference import torch_executor

            nncf.set_log_level(logging.ERROR)
            # Its own arithmetic in torch, for good: what it takes else it compiles when it is first asked.
            QuantizedFunctionsCPU._loaded_namespace = SimpleNamespace(Quantize_forward=torch_executor.forward)
            data = nncf.Dataset(calls)
            if mode:
                made = nncf.compress_weights(denoiser, mode=nncf.CompressWeightsMode[mode], group_size=group, dataset=data)
                return QuantizedNetwork(made, dict(_compressed(made)))
            made = nncf.quantize(denoiser, data, subset_size=len(calls))
            return QuantizedNetwork(made, dict(_quantized(made, calls[0])))


def _compressed(made: nn.Module) -> Iterator[tuple[str, LayerGrids]]:
    """Weights that are stored as codes: hooks on constants, under their names."""
    from nncf.torch.function_hook.hook_storage import decode_hook_name
    from nncf.torch.function_hook.wrapper import get_hook_storage
    from nncf.torch.quantization.layers import BaseWeightsDecompressor

    for name, hook in get_hook_storage(made).named_hooks():
        parameter = decode_hook_name(name)[1]
        kind = type(hook).__name__
        if parameter.endswith(".weight") and isinstance(hook, BaseWeightsDecompressor):
            spec = QuantSpec(4 if "INT4" in kind else 8, "channel", symmetric="Symmetric" in kind)
            yield parameter.removesuffix(".weight"), LayerGrids(spec, None, hook._scale.numel())


def _quantized(made: nn.Module, call: dict[str, Any]) -> Iterator[tuple[str, LayerGrids]]:
    """Layers whose weight goes through a quantizer, in the graph of a call."""
    from nncf.torch.function_hook.nncf_graph.nncf_graph_builder import build_nncf_graph
    from nncf.torch.quantization.default_quantization import DEFAULT_PT_QUANT_TRAIT_TO_OP_DICT, QuantizationTrait

    graph = build_nncf_graph(made, call)
    kinds = (QuantizationTrait.QUANTIZATION_AGNOSTIC, QuantizationTrait.CONCAT)
    moves = {kind for trait in kinds for kind in DEFAULT_PT_QUANT_TRAIT_TO_OP_DICT[trait]}

    def grid_of(node: Any, per: Literal["tensor", "channel"] = "tensor") -> QuantSpec | None:
        """The grid that a node's output is on: its own, if it rounds, or that of all that it only moves."""
        if node.node_type in QUANTIZERS:
            return QuantSpec(8, per, symmetric=node.node_type == QUANTIZERS[0])
        before = [grid_of(n, per) for n in graph.get_previous_nodes(node)] if node.metatype in moves else []
        return before[0] if before and None not in before else None

    for node in graph.get_all_nodes():
        if node.node_type not in LAYERS:
            continue
        given, weight = (graph.get_input_edge_by_port_id(node, port).from_node for port in (0, 1))
        if weight.node_type in QUANTIZERS:
            constant = next(n for n in graph.get_previous_nodes(weight) if n.layer_attributes is not None)
            name = constant.layer_attributes.name.removesuffix(".weight")
            channels = made.get_parameter(f"{name}.weight").shape[0]
            yield name, LayerGrids(grid_of(weight, "channel"), grid_of(given), channels)
