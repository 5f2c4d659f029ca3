"""Adam on scores of which every step sees a part."""

from __future__ import annotations

import pytest
import torch

from ptqbench.fitting.scores import ScoreAdam


def test_one_score_follows_torchs_adam() -> None:
    """With a single score there is nothing to share."""
    mine, theirs = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    ours, reference = ScoreAdam(mine, 0.1), torch.optim.Adam([theirs], lr=0.1, eps=0)
    for slope in torch.randn(30, 1, generator=torch.Generator().manual_seed(0)).double():
        ours.step(torch.tensor([0]), slope)
        theirs.grad = slope.clone()
        reference.step()
        torch.testing.assert_close(mine, theirs.detach())


def test_a_first_step_is_in_proportion_to_the_slope() -> None:
    scores = torch.zeros(4)
    ScoreAdam(scores, 0.1).step(torch.tensor([0, 2]), torch.tensor([3.0, -0.3]))
    assert scores[[1, 3]].tolist() == [0, 0]
    assert float(scores[0] / scores[2]) == pytest.approx(-10)
    assert float(scores[[0, 2]].square().mean().sqrt()) == pytest.approx(0.1)


def test_noise_alone_moves_a_score_no_further_late_than_early() -> None:
    """A score that is first touched after 500 steps moves like one touched at the first."""
    scores = torch.zeros(2000)
    optimiser = ScoreAdam(scores, 0.1)
    generator = torch.Generator().manual_seed(0)
    for piece in torch.arange(2000).split(4):
        optimiser.step(piece, torch.randn(4, generator=generator))
    early, late = scores[:400].square().mean().sqrt(), scores[-400:].square().mean().sqrt()
    assert float(late / early) == pytest.approx(1, abs=0.15)


def test_slopes_of_zero_move_nothing() -> None:
    scores = torch.ones(3)
    ScoreAdam(scores, 0.1).step(torch.tensor([0, 1]), torch.zeros(2))
    assert scores.tolist() == [1, 1, 1]
