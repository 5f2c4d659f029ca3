"""What the libraries' own modules say is what the ledger says; each is tried where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from ptqbench.errors import CellFailedError
from ptqbench.roles.network import CalibrationCalls
from ptqbench_libraries.bits import setting_for


def test_bits_without_a_setting_are_told_with_those_that_there_are():
    with pytest.raises(CellFailedError, match="mine has no setting for W2A8") as caught:
        setting_for("mine", {(8, 8): 1, (4, 32): 2}, (2, 8))
    assert "W8A8, W4A32" in caught.value.hint
    assert setting_for("mine", {(8, 8): 1}, (8, 8)) == 1


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 8, 3, padding=1), nn.Linear(128, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.silu(self.first(x)).flatten(1))


def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


LINEAR = {"last"}
BOTH = {"first", "last"}


@pytest.mark.parametrize(
    ("name", "package", "bits", "weights", "inputs"),
    [
        ("quanto", "optimum.quanto", (8, 8), BOTH, LINEAR),
        ("quanto", "optimum.quanto", (4, 32), BOTH, set()),
        ("torchao", "torchao", (8, 8), LINEAR, LINEAR),
        ("modelopt", "modelopt.torch.quantization", (8, 8), BOTH, BOTH),
        ("nncf", "nncf", (8, 8), BOTH, BOTH),
        ("nncf", "nncf", (8, 32), BOTH, set()),
    ],
)
def test_a_library_rounds_what_its_ledger_says(name, package, bits, weights, inputs):
    pytest.importorskip(package)
    made: Any = importlib.import_module(f"ptqbench_libraries.{name}")
    quantizer = getattr(made, name.capitalize())(None)
    x = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    found = quantizer.quantize(net(), bits, CalibrationCalls(8, lambda m: m(x), lambda m: [((x,), {})]))
    with torch.no_grad():
        error = (found.module(x) - net()(x)).square().mean() / net()(x).square().mean()
    assert 0 < error < (0.01 if bits[0] == 8 else 0.1)
    assert {n for n, grids in found.layers.items() if grids.weight is not None and grids.weight.bits == bits[0]} == weights
    assert {n for n, grids in found.layers.items() if grids.activation is not None} == inputs
    assert all(grids.scales > 1 for grids in found.layers.values())
    assert found.executed == (name == "torchao")
