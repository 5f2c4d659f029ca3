"""The loss terms `output` and `fisher` against plain loops, and their derivatives against finite differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.plugin.component import NoOptions
from ptqbench.roles.loss import Outcome
from ptqbench_brecq import FisherOptions
from ptqbench_brecq.losses import FisherError, OutputError

SHAPES = [(3, 4, 2, 5), (3, 6, 4), (3, 7)]
B = 3


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outcome(shapes: list[tuple[int, ...]], power: float = 2.0, sensitivity: bool = True) -> Outcome:
    return Outcome(
        output=tuple(drawn(shape, 10 + i) for i, shape in enumerate(shapes)),
        target=tuple(drawn(shape, 20 + i) for i, shape in enumerate(shapes)),
        step=torch.zeros(B, dtype=torch.int64),
        power=power,
        sensitivity=tuple(drawn(shape, 30 + i) for i, shape in enumerate(shapes)) if sensitivity else (),
    )


def by_loop(p: Tensor, q: Tensor, factor: Tensor, power: float) -> list[float]:
    """Sum over axis 1, mean over what follows, one element at a time."""
    found = []
    for i in range(B):
        values = [
            (abs(a - b) ** power) * f
            for a, b, f in zip(p[i].flatten().tolist(), q[i].flatten().tolist(), factor[i].flatten().tolist(), strict=True)
        ]
        positions = p[i][0].numel() if p[i].dim() > 1 else 1
        found.append(sum(values) / positions)
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("power", [2.0, 2.4])
def test_output_is_the_plain_error_with_the_reconstructions_power(shape: tuple[int, ...], power: float) -> None:
    given = outcome([shape], power)
    found = OutputError(NoOptions()).losses(given)
    assert list(found) == [""]
    assert found[""].tolist() == pytest.approx(by_loop(given.output[0], given.target[0], torch.ones(shape), power))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("compat", [False, True])
def test_fisher_weighs_each_element_by_its_squared_sensitivity(shape: tuple[int, ...], compat: bool) -> None:
    given = outcome([shape], power=2.4)
    factor = (given.sensitivity[0].abs() + 1 if compat else given.sensitivity[0]) ** 2
    found = FisherError(FisherOptions(compat=compat)).losses(given)
    assert list(found) == [""]
    assert found[""].tolist() == pytest.approx(by_loop(given.output[0], given.target[0], factor, 2.0))


@pytest.mark.parametrize("shape", SHAPES)
def test_with_a_scale_for_each_sample_its_size_alone_does_not_count(shape: tuple[int, ...]) -> None:
    given = outcome([shape])
    (g,) = given.sensitivity
    size = torch.tensor([1e-3, 1.0, 50.0], dtype=g.dtype).reshape(B, *[1] * (g.dim() - 1))
    found, larger = (
        FisherError(FisherOptions(scale="sample")).losses(replace(given, sensitivity=(s,)))[""] for s in (g, g * size)
    )
    ones = torch.stack([row / row.square().mean().sqrt() for row in g])
    assert found.tolist() == pytest.approx(by_loop(given.output[0], given.target[0], ones**2, 2.0))
    torch.testing.assert_close(larger, found)


def test_outputs_of_a_sample_keep_their_weights_beside_each_other() -> None:
    both = outcome([SHAPES[0], SHAPES[2]])
    larger = replace(both, sensitivity=(100 * both.sensitivity[0], both.sensitivity[1]))
    found = FisherError(FisherOptions(scale="sample")).losses(larger)[""]
    first = replace(larger, output=(larger.output[0], larger.target[1]))
    torch.testing.assert_close(FisherError(FisherOptions(scale="sample")).losses(first)[""], found, rtol=1e-3, atol=0.0)


def test_a_sample_that_nothing_depends_on_has_no_loss_rather_than_none() -> None:
    given = outcome([SHAPES[0]])
    unseen = replace(given, sensitivity=(torch.zeros_like(given.sensitivity[0]),))
    assert FisherError(FisherOptions(scale="sample")).losses(unseen)[""].tolist() == [0.0, 0.0, 0.0]


def test_several_outputs_add_up() -> None:
    both = outcome([SHAPES[0], SHAPES[2]])
    for term in (OutputError(NoOptions()), FisherError(FisherOptions())):
        parts = [
            term.losses(Outcome((p,), (q,), both.step, both.power, sensitivity=(g,)))[""]
            for p, q, g in zip(both.output, both.target, both.sensitivity, strict=True)
        ]
        torch.testing.assert_close(term.losses(both)[""], parts[0] + parts[1])


def test_fisher_approximates_the_second_order_rise_of_the_networks_error() -> None:
    """For E = (a . z)^2 / 2 the Hessian is a a^T, its diagonal a^2; at a . z = 1 the gradient is a. One element moves."""
    a, z = drawn((1, 5), 1), drawn((1, 5), 2)
    z = z / (a * z).sum()
    for k in range(5):
        moved = z.clone()
        moved[0, k] += 1e-3
        rise = ((a * moved).sum() ** 2 - 1) / 2 - (moved - z)[0, k] * a[0, k]
        given = Outcome((moved,), (z,), torch.zeros(1, dtype=torch.int64), 2.0, sensitivity=(a,))
        assert float(FisherError(FisherOptions()).losses(given)[""]) / 2 == pytest.approx(float(rise), rel=1e-6)


def test_fisher_without_sensitivities_is_refused() -> None:
    assert FisherError.reads_sensitivity and not OutputError.reads_sensitivity
    with pytest.raises(CellFailedError, match="0 sensitivities for 1 outputs"):
        FisherError(FisherOptions()).losses(outcome([SHAPES[0]], sensitivity=False))
