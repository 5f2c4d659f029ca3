"""The weighter `curriculum`: a unit is fitted on ever more sampling steps, from one end of the trajectory on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from ptqbench.errors import CellFailedError
from ptqbench.quant.steps import step_group
from ptqbench.roles.weighter import Batch, InnerProblem, SampleWeighter
from ptqbench_fixed import CurriculumOptions


class Curriculum(SampleWeighter):
    """In stage l of K, mini-batches are drawn from the first l of K equal groups of steps; all samples in them count alike.

    Stages are equally long, and the last one has every step (the curriculum of FastDM).
    """

    options: CurriculumOptions

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: Generator) -> None:
        """Raises `CellFailedError` if no training sample lies in the first group."""
        groups = self.options.stages
        group = step_group(problem.train_steps, len(problem.timesteps), groups).cpu()
        self.steps = problem.train_steps
        self.stage = group if self.options.start == "noisy" else groups - 1 - group
        self.done = 0
        if not bool((self.stage == 0).any()):
            raise CellFailedError(
                f"curriculum: no training sample is in the first of {groups} groups of steps",
                "use fewer stages, or a calibration sampler that reaches both ends",
            )

    def pool(self, problem: InnerProblem) -> Tensor:
        """The training samples of the stages that have begun."""
        stage = self.done * self.options.stages // max(1, problem.iterations)
        self.done += 1
        return torch.nonzero(self.stage <= stage).flatten()

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """Ones (B,)."""
        like = batch.target[0]
        return torch.ones(len(batch), dtype=like.dtype, device=like.device)

    def report(self) -> Mapping[str, Tensor]:
        """ "stage" (N,) in which a sample comes in, and "step" (N,)."""
        return {"stage": self.stage, "step": self.steps}
