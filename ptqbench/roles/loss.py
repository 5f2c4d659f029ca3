"""Loss terms: what counts as error while a unit is fitted, per sample and by named part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ptqbench.roles.base import WithOptions


@dataclass(frozen=True)
class Outcome:
    """One evaluation of a unit beside full precision. `output` and `target` have one tensor (B, ...) per output.

    `step` (B,) are sampling steps, `power` is the exponent that the reconstruction asks for. `layers` and `layer_targets`
    hold the outputs of the unit's own layers by name in execution order, quantized and in full precision, for terms that
    ask for them; `sensitivity` holds, for each output, the square root of the diagonal of J^T J, with J the derivative of the
    full-precision prediction by that output, estimated with random cotangents and divided by its root mean square over
    the calibration set, so that the rounding regulariser keeps its meaning.
    """

    output: tuple[Tensor, ...]
    target: tuple[Tensor, ...]
    step: Tensor
    power: float
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    layer_targets: Mapping[str, Tensor] = field(default_factory=dict)
    sensitivity: tuple[Tensor, ...] = ()


class LossTerm(WithOptions, ABC):
    """Built as `Class(options)`, one instance per cell. A method's loss is the sum of its terms.

    `reads_layers` asks for the outputs of the unit's layers, `reads_sensitivity` for what the network's prediction
    owes to each element of the output.
    """

    reads_layers = False
    reads_sensitivity = False

    @abstractmethod
    def losses(self, outcome: Outcome) -> Mapping[str, Tensor]:
        """Named parts, each (B,), twice differentiable in the outputs and in forward mode; their sum is the term's loss.

        The engine knows a part as "term" if its name is "", else as "term.part"; weighters may weigh parts one by one. An
        empty mapping says that the term does not apply to this unit.
        """
