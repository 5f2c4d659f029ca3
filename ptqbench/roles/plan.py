"""Plan passes and partitioners: which layer gets which grid, and which layers are fitted together."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from ptqbench.quant.plan import Plan, Probe, UnitPlan
from ptqbench.roles.base import WithOptions


class PlanPass(WithOptions, ABC):
    """Rewrites a plan before anything is quantized. Built as `Class(options)`; passes run in the recipe's order."""

    @abstractmethod
    def apply(self, plan: Plan, probe: Probe) -> Plan:
        """A new plan. Raises `CellFailedError` if there was nothing to change and that cannot be meant."""


class Partitioner(WithOptions, ABC):
    """Groups layers into units. Built as `Class(options)`."""

    @abstractmethod
    def units(self, denoiser: nn.Module, probe: Probe) -> list[UnitPlan]:
        """Disjoint units that cover every probed layer, in execution order."""

    def assemble(self, unit: UnitPlan, denoiser: nn.Module) -> nn.Module:
        """The module that computes `unit`, from the parts of `denoiser` (full precision or quantized), which it shares.

        A unit is one submodule unless a partitioner gathers scattered layers into a synthetic one. That must take the
        inputs of the submodule `unit.module`, where they are recorded, and return one tensor (B, ...) or a tuple of them.
        """
        return denoiser.get_submodule(unit.module)
