"""Reconstructions: how is a unit fitted to its full-precision outputs?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ptqbench.component import Options

if TYPE_CHECKING:
    from ptqbench.engine.fit import FitContext


@dataclass(frozen=True)
class Phase:
    """One pass over all units. `learns` names the kinds of trainables (`ptqbench.roles.quantizer.ParamGroup`); `activations`
    says whether activations are quantized.

    `inputs` says what a unit sees while it is fitted: "quantized", the output of the network quantized so far (AdaRound's
    asymmetric reconstruction), "full-precision", or "mixed", elements of either drawn at random (QDrop); how often, the
    reconstruction says in `FitContext.start`.
    """

    name: str
    learns: frozenset[str]
    activations: bool
    inputs: Literal["quantized", "full-precision", "mixed"]


class Reconstruction(ABC):
    """Built as `Class(options)`, one instance per cell.

    `phases` is empty for rounding to nearest.
    """

    phases: tuple[Phase, ...] = ()

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def work(self, phase: Phase) -> tuple[int, int]:
        """Optimiser steps for each unit in a phase, and samples in each: what forecasts and fairness checks need."""

    @abstractmethod
    def fit(self, context: FitContext) -> Iterator[float]:
        """Optimise the unit in `context`; yield progress in [0, 1] after each iteration. Hardening is the engine's."""
