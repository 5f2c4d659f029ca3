"""What a loss term returns: named parts, one value for each sample, that follow from the unit's outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import check_finite, check_held, check_named, check_tensor, fields, held
from ptqbench.roles.loss import LossTerm, Outcome

TENSORS = ("output", "target", "step", "layers", "layer_targets", "sensitivity")


def _losses(call: Call, _: LossTerm, losses: Callable[[Outcome], Mapping[str, Tensor]], outcome: Outcome) -> dict[str, Tensor]:
    before = held(fields("outcome", outcome, TENSORS))
    found = check_named(call, "the parts of the loss", losses(outcome))
    check_held(call, before)
    for name, value in found.items():
        check_tensor(call, f"the part {name!r}", value, outcome.step.shape, outcome.step)
    own = [*outcome.output, *outcome.layers.values()]
    if found and any(x.requires_grad for x in own) and not any(value.requires_grad for value in found.values()):
        remedy = "compute it from the outputs with torch, without detach(), numpy or no_grad()"
        raise call.refused("gave losses that do not follow from the outputs: nothing could learn", remedy)
    # One look at each part in each iteration; what exactly is wrong is found out when something is.
    if all(math.isfinite(value.detach().sum()) for value in found.values()):
        return found
    wrong = [name for name, value in found.items() if not bool(torch.isfinite(value).all())]
    if wrong and all(bool(torch.isfinite(x).all()) for x in own):
        check_finite(call, f"the part {wrong[0]!r}", found[wrong[0]])
    return found


CHECKS = {"losses": _losses}
