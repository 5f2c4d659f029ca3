"""Sample and band weights: normalisation, the simplex, the regulariser, and what one step of Adam does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ptqbench_beyond import SampleFrequencyOptions
from ptqbench_beyond.haar import BANDS
from ptqbench_beyond.unknowns import BandWeights, SampleWeights, low_share, on_simplex, regulariser, weighed

CPU = torch.device("cpu")


def rows(n: int = 50, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_bisection(row: Tensor, floor: float) -> Tensor:
    """The projection is max(floor, x - t) for the one t that makes it sum to 1."""
    low, high = float(row.min()) - 2, float(row.max())
    for _ in range(200):
        t = (low + high) / 2
        low, high = (t, high) if float((row - t).clamp_min(floor).sum()) > 1 else (low, t)
    return (row - low).clamp_min(floor)


@pytest.mark.parametrize("floor", [1e-6, 0.01, 0.2])
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_projection_is_the_nearest_point_of_the_simplex_with_a_floor(floor: float, spread: float) -> None:
    found = on_simplex(rows(spread=spread), floor)
    torch.testing.assert_close(found.sum(1), torch.ones(50, dtype=torch.float64))
    assert float(found.min()) >= floor - 1e-12
    torch.testing.assert_close(found, torch.stack([by_bisection(row, floor) for row in rows(spread=spread)]))
    torch.testing.assert_close(on_simplex(found, floor), found)


def test_regulariser_sums_the_rises_of_the_low_share_as_noise_fades() -> None:
    table = rows().abs() + 0.1
    expected = 0.0
    for s in range(len(table) - 1):
        noisier, cleaner = (float(row[0] / (row[1] + row[2] + row[3])) for row in (table[s], table[s + 1]))
        expected += max(0.0, cleaner - noisier)
    assert float(regulariser(table)) == pytest.approx(expected)
    ordered = table[low_share(table).argsort(descending=True)]
    assert float(regulariser(ordered)) == 0
    assert float(regulariser(ordered.flip(0))) == pytest.approx(float(low_share(table).max() - low_share(table).min()))
    assert torch.autograd.gradcheck(regulariser, table.requires_grad_())


def test_equal_bands_count_once_each_and_factors_are_four_lambda() -> None:
    bands = BandWeights(3, CPU, SampleFrequencyOptions())
    step = torch.tensor([2, 0])
    assert all(torch.equal(f, torch.ones(2)) for f in bands.factors(step).values())
    bands.table[2] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    factors = bands.factors(step)
    assert list(factors) == [f"haar.{band}" for band in BANDS]
    torch.testing.assert_close(torch.stack(list(factors.values()), 1), torch.tensor([[0.4, 0.8, 1.2, 1.6], [1.0] * 4]))


def test_a_step_moves_along_the_simplex_and_only_where_there_is_a_slope() -> None:
    bands = BandWeights(3, CPU, SampleFrequencyOptions(frequency_rate=0.05))
    slope = torch.zeros(3, 4)
    slope[1] = torch.tensor([3.0, 1.0, 1.0, 1.0])
    bands.step(slope)
    # Adam moves by its rate, up or down as the slope lies above or below the row's mean; the projection takes 0.025 off all.
    torch.testing.assert_close(bands.table[1], torch.tensor([0.175, 0.275, 0.275, 0.275]))
    assert torch.equal(bands.table[[0, 2]], torch.full((2, 4), 0.25))
    for _ in range(200):
        bands.step(slope)
    torch.testing.assert_close(bands.table[1], torch.tensor([0.01, 0.33, 0.33, 0.33]))


def test_what_all_bands_have_in_common_moves_nothing() -> None:
    bands = BandWeights(3, CPU, SampleFrequencyOptions())
    bands.step(torch.tensor([[2.0], [0.0], [-1.0]]).expand(3, 4))
    torch.testing.assert_close(bands.table, torch.full((3, 4), 0.25))


@pytest.mark.parametrize("normalise", ["softmax", "clamp"])
def test_scores_start_equal_and_only_the_batch_moves(normalise: Any) -> None:
    samples = SampleWeights(5, CPU, SampleFrequencyOptions(normalise=normalise, sample_rate=0.3))
    everything = torch.arange(5)
    assert torch.equal(samples.of(everything), torch.ones(5))
    start = samples.scores.clone()
    samples.step(torch.tensor([3, 1]), torch.tensor([-2.0, 0.5]))
    # Against the slope and in proportion to it, by the rate in root mean square.
    rate = 0.3 / (torch.tensor([-2.0, 0.5]).square().mean().sqrt())
    torch.testing.assert_close(samples.scores - start, rate * torch.tensor([0.0, -0.5, 0.0, 2.0, 0.0]))
    weights = samples.of(everything)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[1]) < float(weights[0]) < float(weights[3])
    for _ in range(20):
        samples.step(everything, torch.ones(5))
    assert float(samples.of(everything).min()) >= 0
    assert float(samples.of(everything).mean()) == pytest.approx(1)


def test_clamped_scores_never_fall_below_zero_and_may_return() -> None:
    samples = SampleWeights(3, CPU, SampleFrequencyOptions(normalise="clamp", sample_rate=0.6))
    everything = torch.arange(3)
    for _ in range(4):
        samples.step(everything, torch.tensor([1.0, 1.0, 1.0]))
    assert torch.equal(samples.scores, torch.zeros(3))
    leaf = samples.leaf(everything)
    weights = samples.normalised(leaf)
    assert torch.equal(weights.detach(), torch.ones(3))
    (slope,) = torch.autograd.grad((weights * torch.tensor([1.0, 0.0, -1.0])).sum(), leaf)
    assert float(slope[0]) > 0 > float(slope[2])


def test_weighed_multiplies_the_named_parts_alone() -> None:
    parts = {"output": torch.tensor([1.0, 2.0]), "haar.ll": torch.tensor([10.0, 20.0])}
    assert weighed(parts, {}).tolist() == [11, 22]
    assert weighed(parts, {"haar.ll": torch.tensor([0.5, 2.0])}).tolist() == [6, 42]
