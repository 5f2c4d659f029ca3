"""The Inception score against its definition, and why images are shuffled."""

from __future__ import annotations

import math

import pytest
import torch
from metrickit import evidence_of, number

from ptqbench.evaluate.intervals import partition
from ptqbench_metrics.score import score, shuffled


def probabilities(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(2).softmax(dim=1)


def direct(rows: list[list[float]]) -> float:
    """exp(mean_i sum_k p_ik (log p_ik - log mean_j p_jk)), term by term."""
    marginal = [sum(row[k] for row in rows) / len(rows) for k in range(len(rows[0]))]
    terms = [sum(p * (math.log(p) - math.log(q)) for p, q in zip(row, marginal, strict=True)) for row in rows]
    return math.exp(sum(terms) / len(rows))


def test_equals_the_definition_split_by_split() -> None:
    rows = probabilities(47, 5)
    found = number("inception-score", evidence_of(probabilities=rows), splits=4)
    splits = [direct(rows[part].tolist()) for part in shuffled(47, 4)]
    assert found.value == pytest.approx(sum(splits) / 4, rel=1e-12)
    assert found.n == 47
    assert found.low < found.value < found.high


def test_left_out_blocks_equal_starting_over_and_parts_change_nothing() -> None:
    rows, labels = probabilities(47, 5), torch.from_numpy(partition(47))
    found = number("inception-score", evidence_of(probabilities=rows), splits=4)
    expected = [sum(direct(rows[part[labels[part] != block]].tolist()) for part in shuffled(47, 4)) / 4 for block in range(20)]
    assert found.replicates == pytest.approx(expected, rel=1e-12)
    assert number("inception-score", evidence_of(size=5, probabilities=rows), splits=4).value == pytest.approx(found.value)


def test_splits_are_a_fixed_shuffle_of_all_images() -> None:
    parts = shuffled(23, 4)
    assert sorted(torch.cat(list(parts)).tolist()) == list(range(23))
    assert {len(part) for part in parts} == {5, 6}
    assert all(torch.equal(a, b) for a, b in zip(parts, shuffled(23, 4), strict=True))


def test_probabilities_that_underflowed_add_nothing() -> None:
    assert score(torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double()) == pytest.approx(
        math.exp((math.log(1 / 0.75) + 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2)
    )
