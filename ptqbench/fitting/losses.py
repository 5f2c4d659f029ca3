"""The loss of a unit: a method's terms summed, part by part and per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.boundary.build import build
from ptqbench.errors import CellFailedError
from ptqbench.plugin.component import Bound
from ptqbench.roles.loss import LossTerm, Outcome


def per_sample_loss(prediction: Tensor, target: Tensor, power: float = 2.0) -> Tensor:
    """|p - q|^power summed over axis 1 and averaged over the remaining axes, per sample: (B,) from (B, C, ...).

    Its mean over the batch is the reconstruction loss of BRECQ's code, whose scale the rounding regulariser is tuned to.
    """
    difference = prediction - target
    error = difference.square() if power == 2 else difference.abs().pow(power)
    return reduce_per_sample(error)


def reduce_per_sample(error: Tensor) -> Tensor:
    """Elementwise errors (B, C, ...) summed over axis 1 and averaged over the remaining axes: (B,)."""
    return error.sum(1).flatten(1).mean(1) if error.dim() > 2 else error.flatten(1).sum(1)


@dataclass(frozen=True)
class UnitLoss:
    """Loss terms under their components' names."""

    terms: Sequence[tuple[str, LossTerm]]

    @classmethod
    def of(cls, chosen: Sequence[Bound]) -> UnitLoss:
        """One instance of each chosen term."""
        return cls([(bound.name, build(bound)) for bound in chosen])

    @property
    def reads_layers(self) -> bool:
        return any(term.reads_layers for _, term in self.terms)

    @property
    def reads_sensitivity(self) -> bool:
        return any(term.reads_sensitivity for _, term in self.terms)

    def parts(self, outcome: Outcome) -> dict[str, Tensor]:
        """Every part as "term" or "term.part", each (B,).

        Raises `CellFailedError` if no term applies to the unit.
        """
        found: dict[str, Tensor] = {}
        for name, term in self.terms:
            for part, value in term.losses(outcome).items():
                found[f"{name}.{part}" if part else name] = value
        if not found:
            names = ", ".join(name for name, _ in self.terms)
            raise CellFailedError(f"no loss term applies to this unit: {names or 'none given'}", 'add "output" to losses')
        return found


def total(parts: Mapping[str, Tensor], factors: Mapping[str, Tensor] | None = None) -> Tensor:
    """The sum of all parts (B,), those named in `factors` multiplied by theirs.

    Raises `CellFailedError` for a factor of a part that the loss does not have.
    """
    factors = factors or {}
    if unknown := sorted(set(factors) - set(parts)):
        known = ", ".join(parts)
        raise CellFailedError(f"the weighter weighs loss parts that are not there: {', '.join(unknown)}", f"there are {known}")
    weighed = []
    for name, value in parts.items():
        factor = factors.get(name)
        weighed.append(value if factor is None else factor * value)
    return torch.stack(weighed).sum(0) if len(weighed) > 1 else weighed[0]
