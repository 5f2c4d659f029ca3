"""The share of multiplications on integers comes from what an engine made of a network."""

import pytest

from ptqbench_deployment.onnx_engines import _kernel, integer_share


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
