"""What a sampler hook returns: finite tensors from `fit`, a prediction of the same shape, noise that a sampler can add."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import check_finite, check_held, check_named, check_tensor, count, described, held
from ptqbench.roles.hook import PredictionPairs, SamplerHook
from ptqbench.roles.solver import StepNoise


def check_made(call: Call, hook: SamplerHook) -> None:
    """What a sampler hook says of itself."""
    count(call, "trajectories", hook.trajectories)


def _fit(
    call: Call, _: SamplerHook, fit: Callable[[PredictionPairs], Mapping[str, Tensor]], pairs: PredictionPairs
) -> dict[str, Tensor]:
    found = check_named(call, "what it learned", fit(pairs))
    for name, tensor in found.items():
        check_finite(call, repr(name), tensor, "look at the ranges of activations, and for a division by zero")
    return {name: tensor.detach() for name, tensor in found.items()}


def _prediction(
    call: Call, _: SamplerHook, prediction: Callable[[Tensor, Tensor], Tensor], step: Tensor, eps: Tensor
) -> Tensor:
    before = held([("the prediction", eps), ("the steps", step)])
    found = check_tensor(call, "the prediction", prediction(step, eps), eps.shape, eps)
    check_held(call, before)
    if not bool(torch.isfinite(found).all()) and bool(torch.isfinite(eps).all()):
        check_finite(call, "the prediction", found)
    return found


def _noise(
    call: Call, _: SamplerHook, noise: Callable[[int, StepNoise], StepNoise], step: int, planned: StepNoise
) -> StepNoise:
    found = noise(step, planned)
    if not isinstance(found, StepNoise):
        raise call.refused(f"planned {described(found)} at step {step}", "return a ptqbench.roles.solver.StepNoise")
    if not all(isinstance(x, float | int) and math.isfinite(x) and x >= 0 for x in (found.sigma, found.direction)):
        raise call.refused(f"planned {found} at step {step}", "deviations are finite numbers, and not negative")
    return found


CHECKS = {"fit": _fit, "prediction": _prediction, "noise": _noise}
