"""Engines that execute ONNX files: onnxruntime and OpenVINO, on the CPU and in float32 where nothing is on integers."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptqbench.plugin.component import Options
from ptqbench.roles.engine import Engine, Program
from ptqbench.roles.exporter import Deployable, Inputs
from ptqbench_deployment import OnnxOptions
from ptqbench_deployment.checks import open_session
from ptqbench_deployment.extras import require
from ptqbench_deployment.graph import OUTPUT, feeds, write_graph
from ptqbench_deployment.onnx_files import MANIFEST, OnnxExporter

Graph = Callable[[Inputs], Tensor]

Kernel = tuple[str, str, Sequence[Sequence[int]], Sequence[int]]
"""What was executed: kind of operator, type that it multiplies, shapes of its inputs and of its output."""

INTEGERS = ("int8", "uint8", "i8", "u8")


class GraphEngine(Engine):
    """What engines of ONNX files have in common: the files, and which of them is whose step."""

    options: OnnxOptions
    extra: str
    packages: tuple[str, ...]

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        require("onnx", "onnxscript", "onnxruntime", *self.packages, extra=self.extra)
        self.version = f"{self.packages[0]} {importlib.metadata.version(self.packages[0])}"

    def prepare(self, cell: Deployable, quantized: bool, folder: Path) -> None:
        """Full precision as it is, the quantized denoiser as the exporter "onnx" writes and checks it."""
        if quantized:
            OnnxExporter(self.options).write(cell, folder)
        else:
            rows = cell.held_out.rows(slice(0, 2))
            write_graph(cell.call, copy.deepcopy(cell.full_precision), rows, folder / "model.onnx")

    def load(self, cell: Deployable, quantized: bool, folder: Path, threads: int) -> Program:
        """Every file; a call goes to that of its step."""
        graphs = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["graphs"] if quantized else []
        files = graphs or [{"file": "model.onnx", "steps": [0, cell.quantized.context.steps - 1]}]
        first = cell.held_out.rows(slice(0, 1))
        loaded = [(graph["steps"], *self.open(folder / graph["file"], threads, first)) for graph in files]

        def run(given: Inputs) -> Tensor:
            step = int(given.step[0])
            graph: Graph = next(graph for (start, end), graph, _ in loaded if start <= step <= end)
            return graph(given)

        return Program(run, sum(share for *_, share in loaded) / len(loaded))

    @abstractmethod
    def open(self, path: Path, threads: int, first: Inputs) -> tuple[Graph, float]:
        """A file to run, and the share of its multiplications that are executed on integers; `first` are rows to try it on."""


class OnnxruntimeEngine(GraphEngine):
    """onnxruntime's CPU provider with all optimisations."""

    extra, packages = "onnx", ("onnxruntime",)

    def open(self, path: Path, threads: int, first: Inputs) -> tuple[Graph, float]:
        """The share is of a profile: the kernels that ran, with the types and shapes of what they got."""
        share = integer_share(_profiled(path, threads, first))
        session = open_session(path, _options(threads))

        def run(given: Inputs) -> Tensor:
            return torch.from_numpy(session.run([OUTPUT], feeds(given))[0])

        return run, share


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return options


def _profiled(path: Path, threads: int, first: Inputs) -> list[Kernel]:
    """The kernels of one run, in a session of its own: a profile has no shapes of weights that were packed for speed."""
    options = _options(threads)
    options.enable_profiling, options.profile_file_prefix = True, str(path.with_suffix(""))
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = open_session(path, options)
    session.run([OUTPUT], feeds(first))
    profile = Path(session.end_profiling())
    events = json.loads(profile.read_text(encoding="utf-8"))
    profile.unlink()
    return [_kernel(event["args"]) for event in events if "input_type_shape" in event.get("args", {})]


class OpenvinoEngine(GraphEngine):
    """OpenVINO's CPU plugin."""

    extra, packages = "openvino", ("openvino",)

    def open(self, path: Path, threads: int, first: Inputs) -> tuple[Graph, float]:
        """The share is of the runtime model: the layers that were compiled, with their precision."""
        import openvino

        core = openvino.Core()
        # Else a processor with bfloat16 computes what is not on integers in that, and full precision is none.
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
        request = compiled.create_infer_request()

        def run(given: Inputs) -> Tensor:
            return torch.from_numpy(request.infer(feeds(given))[0].copy())

        run(first)
        return run, integer_share(_layer(op) for op in compiled.get_runtime_model().get_ops())


def integer_share(kernels: Iterable[Kernel]) -> float:
    """The share of the multiplications of convolutions and products that are of integers."""
    total = integer = 0
    for kind, precision, inputs, output in kernels:
        macs = _macs(kind.lower(), inputs, output)
        total += macs
        integer += macs if precision.lower() in INTEGERS else 0
    return integer / total if total else 0.0


def _macs(kind: str, inputs: Sequence[Sequence[int]], output: Sequence[int]) -> int:
    """Outputs times what each sums over: a weight but for its first axis, or the last axis of the left factor."""
    if "conv" in kind:
        weights = [shape for shape in inputs[1:] if len(shape) >= 3]
        return math.prod(output) * math.prod(weights[0][1:]) if weights else 0
    if ("matmul" in kind or "gemm" in kind or "fullyconnected" in kind) and inputs and inputs[0]:
        return math.prod(output) * inputs[0][-1]
    return 0


def _kernel(args: dict[str, Any]) -> Kernel:
    """A line of onnxruntime's profile."""
    inputs = [next(iter(entry.items())) for entry in args["input_type_shape"]]
    outputs = [next(iter(entry.values())) for entry in args["output_type_shape"]]
    return args["op_name"], inputs[0][0] if inputs else "", [shape for _, shape in inputs], outputs[0] if outputs else ()


def _layer(op: Any) -> Kernel:
    """A layer of OpenVINO's runtime model; an axis of any size counts as one."""
    info = op.get_rt_info()
    inputs = [_sizes(op.input(i).get_partial_shape()) for i in range(op.get_input_size())]
    output = _sizes(op.output(0).get_partial_shape()) if op.get_output_size() else []
    return str(info["layerType"].astype(str)), str(info["runtimePrecision"].astype(str)), inputs, output


def _sizes(shape: Any) -> list[int]:
    return [axis.get_length() if axis.is_static else 1 for axis in shape]
