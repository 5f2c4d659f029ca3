"""Learning one score for each calibration sample, of which every mini-batch touches a few."""

from __future__ import annotations

import torch
from torch import Tensor

LIMIT = 2.0
"""A score moves at most this many rates in a step: slopes have heavy tails, and one look-ahead must not rule a sample out."""


class ScoreAdam:
    """Adam (arXiv:1412.6980) on a vector of scores (N,), in steps that each see the slopes of some scores.

    Three things differ from `torch.optim.SparseAdam`, whose memory is per score and whose bias correction counts all steps. A
    score is touched a few times in a whole fit: corrected for thousands of steps that it was not part of, its slopes seem
    tiny, it moves by up to three times the rate whatever its slope, and noise alone drives scores apart. So the first
    moment's correction counts a score's own touches, and the second moment is one number for all scores: a sample that
    matters twice as much moves twice as far, the root-mean-square sample by about `rate`, and none by more than `LIMIT` of it.
    """

    def __init__(self, scores: Tensor, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.scores, self.rate = scores, rate
        self.decay, self.square_decay = betas
        self.mean = torch.zeros_like(scores)
        self.touched = torch.zeros_like(scores)
        self.square = 0.0
        self.steps = 0

    @torch.no_grad()
    def step(self, index: Tensor, slope: Tensor) -> None:
        """Move the scores at `index` (B,), all different, against `slope` (B,). A slope of zeros moves nothing."""
        slope = slope.to(self.scores)
        index = index.to(self.scores.device)
        self.steps += 1
        self.touched[index] += 1
        self.mean[index] = self.decay * self.mean[index] + (1 - self.decay) * slope
        self.square = self.square_decay * self.square + (1 - self.square_decay) * float(slope.double().square().mean())
        size = (self.square / (1 - self.square_decay**self.steps)) ** 0.5
        if size > 0:
            lengths = self.mean[index] / (1 - self.decay ** self.touched[index]) / size
            self.scores[index] -= self.rate * lengths.clamp(-LIMIT, LIMIT)
