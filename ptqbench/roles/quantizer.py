"""Quantizers: how the values at one site of one layer go to a grid, and with which trainables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ptqbench.plugin.component import Options
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench.roles.range import RangeEstimator


@dataclass(frozen=True)
class ParamGroup:
    """Trainables of a quantizer under the attribute names that `state_dict` gives them.

    `kind` is "rounding" (AdaRound's variables), "step" (scales), or a word of the quantizer's own for anything else. The phases
    of a reconstruction name the kinds that they learn and set their learning rates by kind.
    """

    names: tuple[str, ...]
    kind: str


class Quantizer(nn.Module, ABC):
    """One instance per (site, partition). Built as `Class(options, spec=..., layout=..., estimator=...)`.

    `estimator()` returns a fresh range estimator for one slot. Life cycle: `observe` any number of times, `freeze`, then
    `forward`; while a unit is fitted, between `begin_learning` and `harden`, the forward pass is twice differentiable in
    the tensors that `learnable` names, and in forward mode.
    """

    def __init__(self, options: Options, *, spec: QuantSpec, layout: Layout, estimator: Callable[[], RangeEstimator]) -> None:
        super().__init__()
        self.options = options
        self.spec = spec
        self.layout = layout
        self.estimator = estimator
        self.learning = False

    @abstractmethod
    def observe(self, x: Tensor, group: Tensor | None = None) -> None:
        """Feed values to the range estimator; `group` (B,) is each sample's step group, 0 where the spec has one.

        None for weights, and for values of which it is not known what samples they belong to.
        """

    @abstractmethod
    def freeze(self) -> None:
        """Fix scale and zero point from what was observed. Raises `CellFailedError` if nothing was."""

    @abstractmethod
    def forward(self, x: Tensor, group: Tensor | None = None) -> Tensor:
        """Fake-quantize x. Refuses to run before `freeze`."""

    @classmethod
    def offers(cls, options: Options) -> frozenset[str]:
        """The kinds of trainables that quantizers with these options have; none by default.

        Phases that learn none of them are skipped, so this is asked before a quantizer is built, and `learnable` of one that
        is may only name kinds from here.
        """
        return frozenset()

    def learnable(self) -> Sequence[ParamGroup]:
        """What can be trained, by attribute name; none by default. Asked at any time, also before `freeze`."""
        return ()

    def begin_learning(self, x: Tensor | None) -> None:
        """Reconstruction of this site starts: create the trainables; `x` is the weight for a weight quantizer."""
        self.learning = True

    def penalty(self, progress: float, params: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """Regulariser at `progress` in [0, 1] of the optimisation (a scalar), or None."""
        return None

    def harden(self) -> None:
        """End of learning: from here on the forward pass is the one of inference."""
        self.learning = False

    @abstractmethod
    def export(self, x: Tensor | None = None) -> dict[str, Tensor]:
        """The finished parameters: "scale" and "zero_point", and "codes" of x (integers) for a weight quantizer."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the state that `export` of an equal quantizer gave; the quantizer is then frozen and hard.

        A quantizer whose codes do not follow from the grid alone keeps "codes": a second `export` gives them again.
        """
