"""A network as an ONNX file, through torch's exporter."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.process.snapshot import undisturbed
from ptqbench.roles.exporter import Inputs
from ptqbench.roles.model import Conditions

OPSET = 20
"""From 21 on there is a GroupNormalization, which onnxruntime takes apart into many small operations on the CPU."""

OUTPUT = "output"
Evaluate = Callable[[nn.Module, Tensor, Tensor, Conditions], Tensor]


class _Evaluation(nn.Module):
    """One evaluation as a function of tensors in a row."""

    def __init__(self, call: Evaluate, denoiser: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.denoiser, self.evaluate, self.names = denoiser, call, names

    def forward(self, x: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
        return self.evaluate(self.denoiser, x, t, dict(zip(self.names, cond, strict=True)))


def feeds(given: Inputs) -> dict[str, Any]:
    """Rows as a graph takes them: numpy arrays under the names of its inputs."""
    tensors = {"x": given.x, "t": given.t, **given.cond}
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}


@torch.no_grad()
def write_graph(call: Evaluate, denoiser: nn.Module, example: Inputs, path: Path) -> None:
    """Write `call(denoiser, x, t, cond)` for batches of any size; inputs are "x", "t" and the conditions by name.

    Raises `CellFailedError` for a network that torch cannot trace, and `onnx.checker.ValidationError` for what is no ONNX.
    """
    import onnx

    names = list(example.cond)
    tensors = (example.x.cpu(), example.t.cpu(), *(example.cond[name].cpu() for name in names))
    batch = torch.export.Dim("batch", min=1, max=65536)
    rows = ({0: batch}, {0: batch}, *([tuple({0: batch} for _ in names)] if names else []))
    # torch's exporter warns of what is none of ours, and leaves switches of arithmetic elsewhere than they were.
    with undisturbed():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _Evaluation(call, denoiser.cpu(), names).eval(),
                tensors,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=rows,
                input_names=["x", "t", *names],
                output_names=[OUTPUT],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise CellFailedError(f"torch cannot write this network as a graph: {reason}") from error
    assert program is not None
    for node in program.model.graph.all_nodes():
        # Where in which file each node was written: as much as the weights again, and nobody else's business.
        node.metadata_props.clear()
        for output in node.outputs:
            output.metadata_props.clear()
    _zero_points_of_their_own(program.model.graph)
    program.save(path)
    onnx.checker.check_model(path, full_check=True)


def _zero_points_of_their_own(graph: Any) -> None:
    """Torch's exporter stores equal tensors once, and onnxruntime 1.32 cannot turn int8 weights that share a zero point into
    uint8, which its exact products are of."""
    import onnx_ir

    for node in list(graph.all_nodes()):
        zero = node.inputs[2] if node.op_type == "DequantizeLinear" else None
        if zero is not None and zero.is_initializer() and len(zero.uses()) > 1:
            name = f"{node.outputs[0].name}_zero_point"
            own = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(zero.const_value.numpy(), name=name))
            graph.register_initializer(own)
            node.replace_input_with(2, own)
