"""The weighters `late`, `early`, `inverse-error`, `random` and `step-weights`: nothing is learned."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from ptqbench.errors import CellFailedError
from ptqbench.quant.steps import step_group
from ptqbench.roles.weighter import Batch, InnerProblem, SampleWeighter
from ptqbench_fixed import EarlyOptions, InverseErrorOptions, LateOptions, RandomOptions, StepWeightsOptions


class FixedWeighter(SampleWeighter):
    """Weights (N,) of the training samples that are known before a unit is fitted."""

    @abstractmethod
    def fixed(self, problem: InnerProblem, rng: Generator) -> Tensor:
        """One weight > 0 for each training sample, (N,) float32, of any mean."""

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: Generator) -> None:
        """Compute the weights and bring them to mean 1 over the training samples."""
        self.steps = problem.train_steps
        weights = self.fixed(problem, rng)
        self.all = weights / weights.mean()

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """The weights (B,) of the batch's samples."""
        return self.all[batch.index.to(self.all.device)].to(batch.target[0])

    def report(self) -> Mapping[str, Tensor]:
        """ "weights" (N,) with mean 1, and "step" (N,)."""
        return {"weights": self.all, "step": self.steps}


class Late(FixedWeighter):
    """Samples with t < threshold count `factor` times, all others once."""

    options: LateOptions

    def fixed(self, problem: InnerProblem, rng: Generator) -> Tensor:
        """Raises `CellFailedError` if all training samples are on one side of the threshold."""
        chosen = sample_timesteps(problem) < self.options.threshold
        return _raised(chosen, self.options.factor, f"late: timesteps below {self.options.threshold}")


class Early(FixedWeighter):
    """Samples with t > threshold count `factor` times, all others once."""

    options: EarlyOptions

    def fixed(self, problem: InnerProblem, rng: Generator) -> Tensor:
        """Raises `CellFailedError` if all training samples are on one side of the threshold."""
        chosen = sample_timesteps(problem) > self.options.threshold
        return _raised(chosen, self.options.factor, f"early: timesteps above {self.options.threshold}")


class InverseError(FixedWeighter):
    """w_i = 1 / e(s_i)^power, where e(s) is the full-precision model's denoising error at sampling step s."""

    options: InverseErrorOptions

    def fixed(self, problem: InnerProblem, rng: Generator) -> Tensor:
        """Raises `CellFailedError` for an error that is zero or not finite."""
        error = problem.denoising_error().cpu()
        if not bool((torch.isfinite(error) & (error > 0)).all()):
            raise CellFailedError(
                "inverse-error: the denoising error is zero or not finite at some sampling step",
                "there is nothing to take the inverse of; use another weighter",
            )
        # Logarithms: a large power must neither overflow nor vanish before the mean is taken.
        scores = -self.options.power * error.double().log()[problem.train_steps.cpu()]
        return torch.exp(scores - scores.max()).float()


class Random(FixedWeighter):
    """w = N softmax(spread * z) with z standard normal, drawn from the weighter's own stream for this unit."""

    options: RandomOptions

    def fixed(self, problem: InnerProblem, rng: Generator) -> Tensor:
        scores = torch.randn(len(problem.train_steps), generator=rng)
        return torch.softmax(self.options.spread * scores, dim=0)


class StepWeights(FixedWeighter):
    """The weight of the group of sampling steps that a sample is in."""

    options: StepWeightsOptions

    def fixed(self, problem: InnerProblem, rng: Generator) -> Tensor:
        given = torch.tensor(self.options.weights)
        return given[step_group(problem.train_steps.cpu(), len(problem.timesteps), len(given))]


def sample_timesteps(problem: InnerProblem) -> Tensor:
    """The timestep (N,) of every training sample."""
    return problem.timesteps.cpu()[problem.train_steps.cpu()]


def _raised(chosen: Tensor, factor: float, what: str) -> Tensor:
    if bool(chosen.all()) or not bool(chosen.any()):
        side = "every" if bool(chosen.all()) else "no"
        raise CellFailedError(
            f"{what} hold for {side} training sample, so the weights would all be equal",
            "choose another threshold, or a calibration sampler that reaches both sides",
        )
    return torch.where(chosen, factor, 1.0)
