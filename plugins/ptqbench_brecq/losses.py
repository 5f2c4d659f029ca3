"""The loss terms `output` and `fisher`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.fitting.losses import per_sample_loss, reduce_per_sample
from ptqbench.roles.loss import LossTerm, Outcome
from ptqbench_brecq import FisherOptions


class OutputError(LossTerm):
    """sum |P - Q|^power over channels, averaged over positions, for every output; the power is the reconstruction's."""

    def losses(self, outcome: Outcome) -> Mapping[str, Tensor]:
        """One part, summed over the unit's outputs: (B,)."""
        pairs = zip(outcome.output, outcome.target, strict=True)
        return {"": _sum([per_sample_loss(output, target, outcome.power) for output, target in pairs])}


class FisherError(LossTerm):
    """Squared error weighted element by element with how much the network's prediction depends on it (BRECQ, ICLR 2021).

    sum (P - Q)^2 g^2 over channels, averaged over positions, g^2 the diagonal of J^T J: for a prediction with Gaussian errors
    that is the Fisher information, which BRECQ puts in place of the Hessian. With `scale = "sample"` g tells elements of a
    sample apart, and not samples.
    """

    options: FisherOptions
    reads_sensitivity = True

    def losses(self, outcome: Outcome) -> Mapping[str, Tensor]:
        """One part, summed over the unit's outputs: (B,). Raises `CellFailedError` without one sensitivity per output."""
        if len(outcome.sensitivity) != len(outcome.output):
            raise CellFailedError(
                f"fisher got {len(outcome.sensitivity)} sensitivities for {len(outcome.output)} outputs",
                'use the loss term "output" for such units',
            )
        triples = zip(outcome.output, outcome.target, outcome.sensitivity, strict=True)
        return {"": _sum([reduce_per_sample(((p - q) * self._factor(g)).square()) for p, q, g in triples])}

    def _factor(self, sensitivity: Tensor) -> Tensor:
        if self.options.scale == "sample":
            size = sensitivity.square().mean(tuple(range(1, sensitivity.dim())), keepdim=True).sqrt()
            sensitivity = sensitivity / size.clamp_min(torch.finfo(size.dtype).tiny)
        return sensitivity.abs() + 1 if self.options.compat else sensitivity


def _sum(losses: list[Tensor]) -> Tensor:
    """The sum of per-sample losses (B,); of one, that one itself."""
    return torch.stack(losses).sum(0) if len(losses) > 1 else losses[0]
