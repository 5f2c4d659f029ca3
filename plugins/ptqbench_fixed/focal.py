"""The weighter `focal`: steps that hold a large share of the error count less (DMQ's adaptive timestep weighting)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from ptqbench.quant.steps import step_group
from ptqbench.roles.weighter import Batch, InnerProblem, SampleWeighter
from ptqbench_fixed import FocalOptions


class Focal(SampleWeighter):
    """w_i = (1 - L_i / sum L)^power for samples of bin i, with L_i <- m L_i + (1 - m) sum of the bin's losses in a mini-batch.

    L starts at zero, where all samples count alike (arXiv:2507.12933).
    """

    options: FocalOptions

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: Generator) -> None:
        """No errors are known yet."""
        self.steps = len(problem.timesteps)
        self.bins = min(self.options.bins, self.steps)
        self.errors = torch.zeros(self.bins, dtype=torch.float64)
        self.train = problem.train_steps

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """The weights (B,) of the batch's samples, from the errors of the mini-batches before it."""
        return self._of(batch.step).to(batch.target[0])

    def saw(self, batch: Batch, losses: Tensor) -> None:
        """Take the mini-batch's errors into those of the bins; bins that it does not touch fade."""
        found = torch.zeros_like(self.errors).index_add(0, self._bin(batch.step), losses.double().cpu())
        self.errors = self.options.momentum * self.errors + (1 - self.options.momentum) * found

    def report(self) -> Mapping[str, Tensor]:
        """ "weights" (N,) with mean 1 as they are at the end, "step" (N,), and "errors" (bins,)."""
        weights = self._of(self.train)
        return {"weights": (weights / weights.mean()).float(), "step": self.train, "errors": self.errors}

    def _bin(self, step: Tensor) -> Tensor:
        return step_group(step, self.steps, self.bins).cpu()

    def _of(self, step: Tensor) -> Tensor:
        """The weights (B,) of samples at these steps, the largest 1: a high power of a small number is zero, and a mini-batch
        of zeros could not be weighed."""
        share = self.errors / self.errors.sum().clamp_min(torch.finfo(torch.float64).tiny)
        # A single bin that has all the error would count nothing at all.
        logs = self.options.power * (1 - share).clamp_min(1e-3).log()[self._bin(step)]
        return (logs - logs.max()).exp()
