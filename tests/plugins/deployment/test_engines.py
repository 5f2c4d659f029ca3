"""The share of multiplications on integers comes from what an engine made of a network."""

import pytest
import torch

from ptqbench.roles.exporter import Inputs
from ptqbench_deployment import OnnxOptions
from ptqbench_deployment.onnx_engines import OnnxruntimeEngine, _kernel, integer_share


def test_convolutions_and_products_count_by_what_they_sum_over_and_nothing_else_does():
    convolution = ("QLinearConv", "uint8", [[2, 3, 8, 8], [], [], [4, 3, 3, 3]], [2, 4, 8, 8])
    product = ("MatMul", "float", [[2, 8], [8, 16]], [2, 16])
    assert integer_share([convolution, product, ("Mul", "uint8", [[9, 9]], [9, 9])]) == pytest.approx(13824 / (13824 + 256))
    assert integer_share([("Convolution", "FP32", [[2, 3, 8, 8], [4, 3, 3, 3]], [2, 4, 8, 8])]) == 0
    assert integer_share([]) == 0


def test_a_line_of_a_profile_is_a_kernel():
    args = {
        "op_name": "MatMulIntegerToFloat",
        "input_type_shape": [{"uint8": [2, 8]}, {"int8": [8, 16]}, {"float": []}],
        "output_type_shape": [{"float": [2, 16]}],
    }
    assert _kernel(args) == ("MatMulIntegerToFloat", "uint8", [[2, 8], [8, 16], []], [2, 16])
    assert integer_share([_kernel(args)]) == 1


def test_onnxruntime_counts_a_convolution_whose_weight_it_packs(tmp_path):
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, checker, helper, save

    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
        helper.make_tensor("codes", TensorProto.INT8, [4, 3, 3, 3], [1] * 108),
        helper.make_tensor("none", TensorProto.INT8, [], [0]),
    ]
    on_input, on_weight = ["scale", "zero"], ["scale", "none"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *on_input], ["q"]),
        helper.make_node("QLinearConv", ["q", *on_input, "codes", *on_weight, *on_input], ["y"], pads=[1] * 4),
        helper.make_node("DequantizeLinear", ["y", *on_input], ["output"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", n, 8, 8]) for name, n in (("x", 3), ("output", 4))]
    times = helper.make_tensor_value_info("t", TensorProto.INT64, ["b"])
    graph = helper.make_graph(nodes, "one", [ends[0], times], [ends[1]], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    checker.check_model(model)
    save(model, tmp_path / "one.onnx")
    rows = Inputs(torch.ones(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), {})
    run, share = OnnxruntimeEngine(OnnxOptions()).open(tmp_path / "one.onnx", 1, rows)
    assert share == 1 and run(rows).shape == (1, 4, 8, 8) and [p.name for p in tmp_path.iterdir()] == ["one.onnx"]
