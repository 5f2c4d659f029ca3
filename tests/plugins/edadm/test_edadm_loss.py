"""The loss term `layer-outputs`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ptqbench.roles.loss import Outcome
from ptqbench_edadm import LayerOutputsOptions
from ptqbench_edadm.loss import LayerOutputs

SHAPES = {"conv1": (3, 4, 2, 2), "time": (3, 5), "tokens": (3, 6, 2), "shortcut": (3, 4, 2, 2)}


def outcome(names: tuple[str, ...] = tuple(SHAPES), power: float = 2.0) -> Outcome:
    generator = torch.Generator().manual_seed(0)
    quantized, full = (
        {name: torch.randn(SHAPES[name], generator=generator, dtype=torch.float64) for name in names} for _ in range(2)
    )
    out = torch.zeros(3, 4, 2, 2, dtype=torch.float64)
    return Outcome((out,), (out,), torch.zeros(3), power, quantized, full)


def error(found: Tensor, target: Tensor, power: float) -> float:
    """Sum over axis 1, mean over the rest, element by element."""
    total = sum(abs(a - b) ** power for a, b in zip(found.flatten().tolist(), target.flatten().tolist(), strict=True))
    return total / (found[0].numel() if found.dim() > 1 else 1)


def term(factor: float = 0.8) -> LayerOutputs:
    return LayerOutputs(LayerOutputsOptions(factor=factor))


@pytest.mark.parametrize("power", [2.0, 2.4])
@pytest.mark.parametrize("factor", [0.8, 0.0, 1.7])
def test_the_term_sums_all_layers_but_the_last(power: float, factor: float) -> None:
    given = outcome(power=power)
    found = term(factor).losses(given)
    expected = [
        factor * sum(error(given.layers[n][i], given.layer_targets[n][i], power) for n in ("conv1", "time", "tokens"))
        for i in range(3)
    ]
    assert list(found) == [""]
    torch.testing.assert_close(found[""], torch.tensor(expected, dtype=torch.float64))


def test_a_unit_of_one_layer_has_no_such_term() -> None:
    assert term().losses(outcome(("conv1",))) == {}


def test_equal_layers_have_no_error_whatever_the_last_one_does() -> None:
    given = outcome()
    same = {name: given.layers[name] for name in ("conv1", "time", "tokens")}
    made = Outcome(given.output, given.target, given.step, 2.0, given.layers, {**given.layer_targets, **same})
    assert torch.equal(term().losses(made)[""], torch.zeros(3, dtype=torch.float64))


def test_the_gradient_reaches_every_inner_layer() -> None:
    given = outcome()
    for value in given.layers.values():
        value.requires_grad_()
    term().losses(given)[""].sum().backward()
    for name in ("conv1", "time", "tokens"):
        difference = given.layers[name].detach() - given.layer_targets[name]
        positions = difference[0, 0].numel()
        torch.testing.assert_close(given.layers[name].grad, 0.8 * 2 * difference / positions)
    assert given.layers["shortcut"].grad is None


def test_it_asks_for_layers_and_nothing_else() -> None:
    assert LayerOutputs.reads_layers
    assert not LayerOutputs.reads_sensitivity
