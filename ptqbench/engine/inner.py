"""The unit under reconstruction as a value: samples, trainables, and a pure loss (the `InnerProblem` of weighters)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ptqbench.engine.capture import Recording
from ptqbench.quant.layer import StepContext
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.weighter import Batch


def per_sample_loss(prediction: Tensor, target: Tensor, power: float = 2.0) -> Tensor:
    """|p - q|^power summed over axis 1 and averaged over the remaining axes, per sample: (B,) from (B, C, ...).

    Its mean over the batch is the reconstruction loss of BRECQ's code, whose scale the rounding regulariser is tuned to.
    """
    difference = prediction - target
    error = difference.square() if power == 2 else difference.abs().pow(power)
    return error.sum(1).flatten(1).mean(1) if error.dim() > 2 else error.flatten(1).sum(1)


@dataclass(frozen=True)
class UnitData:
    """Inputs and full-precision outputs of a unit over the calibration set, each sample's step, and the split."""

    inputs: Recording
    targets: Recording
    step: Tensor
    train: Tensor
    validation: Tensor
    validation_group: Tensor


@dataclass
class UnitProblem:
    """Implements `ptqbench.roles.weighter.InnerProblem` for a module with learning quantizers inside.

    `kinds` gives each trainable's kind. `power` is the loss exponent; reconstructions set it and the learning rates through
    `FitContext.start`.
    """

    module: nn.Module
    kinds: Mapping[str, str]
    data: UnitData
    context: StepContext
    device: torch.device
    power: float = 2.0
    learning_rate: dict[str, float] = field(default_factory=dict)

    @cached_property
    def params(self) -> dict[str, Tensor]:
        """The current trainables, the tensors that the optimiser moves."""
        return {name: self.module.get_parameter(name) for name in self.kinds}

    @cached_property
    def learning(self) -> list[Quantizer]:
        """The quantizers inside the unit that learn."""
        return [m for m in self.module.modules() if isinstance(m, Quantizer) and m.learning]

    @property
    def train_steps(self) -> Tensor:
        return self.data.step[self.data.train]

    def draw(self, size: int, *, split: str = "train", groups: Sequence[int] | None = None, rng: Generator) -> Batch:
        """See `InnerProblem.draw`."""
        if split not in ("train", "validation"):
            raise ValueError(f"there is no split {split!r}: train or validation")
        if groups is not None and split == "train":
            raise ValueError("only the validation split has groups")
        pool = self.data.train if split == "train" else self.data.validation
        position = torch.arange(len(pool))
        if groups is not None:
            position = position[torch.isin(self.data.validation_group, torch.tensor(list(groups)))]
        if size < len(position):
            position = position[torch.randperm(len(position), generator=rng)[:size]]
        seed = int(torch.randint(2**62, (1,), generator=rng))
        return self.batch(pool[position], position, seed)

    def batch(self, samples: Tensor, position: Tensor, seed: int = 0) -> Batch:
        """The samples at these places of the calibration set."""
        args, kwargs = self.data.inputs.take(samples, self.device)
        step = self.data.step[samples].to(self.device)
        return Batch(position, step, args, kwargs, self.data.targets.take(samples, self.device), seed)

    def losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """See `InnerProblem.losses`. Attention runs on the math kernel, the one that has second derivatives everywhere."""
        self.context.step = batch.step
        with sdpa_kernel(SDPBackend.MATH):
            if params is None:
                out = self.module(*batch.args, **batch.kwargs)
            else:
                out = functional_call(self.module, dict(params), batch.args, dict(batch.kwargs))
        outputs = out if isinstance(out, tuple) else (out,)
        losses = [per_sample_loss(o, t, self.power) for o, t in zip(outputs, batch.target, strict=True)]
        return torch.stack(losses).sum(0) if len(losses) > 1 else losses[0]

    @torch.no_grad()
    def mean_loss(self, limit: int = 256) -> float:
        """Mean loss over (the first `limit` of) the training samples."""
        position = torch.arange(min(limit, len(self.data.train)))
        total = 0.0
        for piece in position.split(64):
            total += float(self.losses(self.batch(self.data.train[piece], piece)).sum())
        return total / len(position)


def trainables(module: nn.Module, learns: frozenset[str]) -> dict[str, str]:
    """Names (relative to `module`) and kinds of what learns in the quantizers inside it."""
    return {
        f"{name}.{attribute}" if name else attribute: group.kind
        for name, quantizer in module.named_modules()
        if isinstance(quantizer, Quantizer) and quantizer.learning
        for group in quantizer.learnable()
        if group.kind in learns
        for attribute in group.names
    }
