"""Libraries that people quantize with, as rows: each is an extra, and imported when a recipe's cell asks for it.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from ptqbench import Component, hookimpl


@hookimpl
def ptqbench_components() -> list[Component]:
    """quanto, torchao, modelopt, nncf."""
    return [
        Component(
            "network-quantizer",
            "quanto",
            "optimum-quanto: convolutions and linear layers, int8 and int4 weights, int8 activations",
            "ptqbench_libraries.quanto:Quanto",
        ),
        Component(
            "network-quantizer",
            "torchao",
            "torchao: linear layers, int8 weights with dynamic int8 activations, or int8 and int4 weights alone",
            "ptqbench_libraries.torchao:Torchao",
        ),
        Component(
            "network-quantizer",
            "modelopt",
            "NVIDIA Model Optimizer: INT8 by largest values; blocks of INT4 weights",
            "ptqbench_libraries.modelopt:Modelopt",
        ),
        Component(
            "network-quantizer",
            "nncf",
            "NNCF, OpenVINO's: INT8 with corrected biases; INT8 weights alone, four bits in linear layers",
            "ptqbench_libraries.nncf:Nncf",
        ),
    ]
