"""A unit's samples: inputs, full-precision outputs, and how a mini-batch of them is put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.roles.weighter import Batch
from ptqbench.sampling.calibrate import CalibrationSet, Split
from ptqbench.sampling.capture import Recording

FEATURE_MAP_AXES = 3
"""Feature maps (B, C, H, W) and tokens (B, N, C) have at least this many axes. Embedding vectors have fewer: never mixed."""


@dataclass(frozen=True)
class Samples:
    """The calibration samples of a cell, and how they are run through a network, `batch` at a time.

    `predict(q, index)` is the noise prediction on the samples at these places, by a quantized denoiser or (None) in full
    precision.
    """

    calibration: CalibrationSet
    split: Split
    predict: Callable[[QuantizedDenoiser | None, Tensor], Tensor]
    batch: int
    device: torch.device


@dataclass(frozen=True)
class UnitData:
    """Inputs and full-precision outputs of a unit over the calibration set, each sample's step, and the split.

    `full_inputs` are the full-precision network's, kept where a phase mixes them in or a loss term compares inner layers.
    `sensitivity` has the shape of the outputs: how much the network's prediction depends on each element, root
    mean square 1 (`ptqbench.fitting.sensitivity`).
    """

    inputs: Recording
    targets: Recording
    step: Tensor
    train: Tensor
    validation: Tensor
    validation_group: Tensor
    full_inputs: Recording | None = None
    sensitivity: Recording | None = None

    def batch(self, samples: Tensor, position: Tensor, seed: int, *, keep: float, device: torch.device) -> Batch:
        """The samples at these places of the calibration set; input elements are the quantized network's with
        probability `keep`, else full precision's, by a mask that `seed` determines."""
        inputs = self.inputs.take(samples, device)
        full = None if self.full_inputs is None else self.full_inputs.take(samples, device)
        if keep < 1 and full is not None:
            inputs = _mixed(inputs, full, keep, seed, device)
        args, kwargs = inputs
        sensitivity = () if self.sensitivity is None else self.sensitivity.take(samples, device)
        target = self.targets.take(samples, device)
        step = self.step.index_select(0, samples).to(device)
        return Batch(position, step, args, kwargs, target, seed, full, sensitivity, samples)


def _mixed(quantized: Any, full: Any, keep: float, seed: int, device: torch.device) -> Any:
    # Another stream than that of the drop masks, which start from the seed itself.
    generator = torch.Generator(device).manual_seed(seed ^ 1)

    def mix(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor) or not a.is_floating_point() or a.dim() < FEATURE_MAP_AXES:
            return a
        return torch.where(torch.rand(a.shape, generator=generator, device=device, dtype=a.dtype) < keep, a, b)

    return tree_map(mix, quantized, full)
