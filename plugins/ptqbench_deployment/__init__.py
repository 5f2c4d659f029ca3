"""How a quantized denoiser leaves, and what runs it: exporters and engines.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl


class OnnxOptions(Options):
    """Options of the ONNX exporter."""

    least_snr: float = Field(30.0, ge=0, description="dB that the graph must agree with the simulation to, or the export fails")
    outputs: bool = Field(
        False,
        description="grids for what convolutions give too, where engines need them to compute on integers, as far as dB allow",
    )
    graphs: int = Field(32, ge=1, description="graphs that may be written where grids depend on the sampling step")


@hookimpl
def ptqbench_components() -> list[Component]:
    """The exporters `safetensors` and `onnx`; the engines `onnxruntime`, `openvino` and `torch`."""
    return [
        Component(
            "exporter",
            "safetensors",
            "codes packed at their bits, grids and a manifest, which ptqbench.load reads",
            "ptqbench_deployment.folder:SafetensorsExporter",
        ),
        Component(
            "exporter",
            "onnx",
            "Q/DQ round convolutions and products that have both grids, checked against the simulation",
            "ptqbench_deployment.onnx_files:OnnxExporter",
            OnnxOptions,
        ),
        Component(
            "engine",
            "onnxruntime",
            "onnxruntime on the CPU, from what the exporter onnx writes",
            "ptqbench_deployment.onnx_engines:OnnxruntimeEngine",
            OnnxOptions,
        ),
        Component(
            "engine",
            "openvino",
            "OpenVINO on the CPU, from the same files",
            "ptqbench_deployment.onnx_engines:OpenvinoEngine",
            OnnxOptions,
        ),
        Component("engine", "torch", "torch, eagerly: what simulating costs", "ptqbench_deployment.torch_engine:TorchEngine"),
    ]
