"""The loss term `layer-outputs`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ptqbench.fitting.losses import per_sample_loss
from ptqbench.roles.loss import LossTerm, Outcome
from ptqbench_edadm import LayerOutputsOptions


class LayerOutputs(LossTerm):
    """factor * sum over the unit's layers but the last executed one of |y - y_full precision|^power (EDA-DM).

    Summed over axis 1 and averaged over positions, as the output's error is. The full-precision outputs come from
    full-precision inputs. The last layer is left out because the unit's own output speaks for it; a unit of one layer has no
    such term.
    """

    options: LayerOutputsOptions
    reads_layers = True

    def losses(self, outcome: Outcome) -> Mapping[str, Tensor]:
        """One unnamed part (B,); none for units of a single layer."""
        inner = list(outcome.layers)[:-1]
        if not inner:
            return {}
        errors = [per_sample_loss(outcome.layers[name], outcome.layer_targets[name], outcome.power) for name in inner]
        return {"": self.options.factor * torch.stack(errors).sum(0)}
