"""Exporters: a quantized denoiser as files for another program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Probe
from ptqbench.roles.base import WithOptions
from ptqbench.roles.model import Conditions


@dataclass(frozen=True)
class Inputs:
    """N rows that a denoiser is called on: latents `x` (N, C, H, W), timesteps `t` (N,), the sampling steps `step` (N,)
    that these are of, and conditions by name, each (N, ...)."""

    x: Tensor
    t: Tensor
    step: Tensor
    cond: Conditions

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Tensor | slice) -> Inputs:
        """Some of the rows."""
        cond = {name: value[index] for name, value in self.cond.items()}
        return Inputs(self.x[index], self.t[index], self.step[index], cond)


@dataclass(frozen=True)
class Deployable:
    """A quantized denoiser that leaves.

    `quantized` is the simulation and `full_precision` what it was made from; `call(denoiser, x, t, cond)` is one evaluation of
    either, (N, C or more, H, W). `probe` has what each layer costs, `held_out` states that nothing was calibrated on,
    `calibration(steps)` batches of full-precision states of calibration trajectories, spread over these sampling steps,
    and `save(folder)` writes what `ptqbench.load` reads.
    """

    quantized: QuantizedDenoiser
    full_precision: nn.Module
    call: Callable[[nn.Module, Tensor, Tensor, Conditions], Tensor]
    probe: Probe
    held_out: Inputs
    calibration: Callable[[range], Iterable[Inputs]]
    save: Callable[[Path], object]

    @torch.no_grad()
    def simulated(self, given: Inputs) -> Tensor:
        """What the simulation gives."""
        self.quantized.context.step = given.step.to(given.x.device)
        return self.call(self.quantized.module, given.x, given.t, given.cond)

    @torch.no_grad()
    def in_full_precision(self, given: Inputs) -> Tensor:
        """What the denoiser gives that was quantized."""
        return self.call(self.full_precision, given.x, given.t, given.cond)


class Exporter(WithOptions, ABC):
    """Built as `Class(options)`."""

    @abstractmethod
    def write(self, cell: Deployable, folder: Path) -> Sequence[str]:
        """Write a quantized denoiser to `folder`, which is there, and return sentences on what a user should know of the files.

        Raises `ptqbench.errors.UserError` where the format has no words for it, or where what was written, run again, is not
        what the simulation computes.
        """
