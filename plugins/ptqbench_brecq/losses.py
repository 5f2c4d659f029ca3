"""The loss terms `output` and `fisher`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        triples = zip(outcome.output, outcome.target, self._factors(outcome.sensitivity), strict=True)
        return {"": _sum([reduce_per_sample(((p - q) * g).square()) for p, q, g in triples])}

    def _factors(self, sensitivity: Sequence[Tensor]) -> list[Tensor]:
        if self.options.scale == "sample":
            rows = torch.cat([g.flatten(1) for g in sensitivity], dim=1)
            size = rows.square().mean(1).sqrt().clamp_min(torch.finfo(rows.dtype).tiny)
            sensitivity = [g / size.reshape(-1, *[1] * (g.dim() - 1)) for g in sensitivity]
        return [g.abs() + 1 if self.options.compat else g for g in sensitivity]


def _sum(losses: list[Tensor]) -> Tensor:
    """The sum of per-sample losses (B,); of one, that one itself."""
    return torch.stack(losses).sum(0) if len(losses) > 1 else losses[0]
