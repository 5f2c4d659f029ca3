"""Engines: programs that execute a denoiser, so that what it takes can be measured and not only be promised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ptqbench.roles.base import WithOptions
from ptqbench.roles.exporter import Deployable, Inputs


@dataclass(frozen=True)
class Program:
    """A denoiser that an engine has loaded.

    `run` is one evaluation, the denoiser's output on the CPU for rows that are all at one sampling step. `integer_share` is the
    share of the multiplications of convolutions and matrix products that are executed on integers, in [0, 1], read from what
    the engine made of the network and not from what it was asked for.
    """

    run: Callable[[Inputs], Tensor]
    integer_share: float


class Engine(WithOptions, ABC):
    """Built as `Class(options)`. `version` names the program that executes, with its version."""

    version: str

    def prepare(self, cell: Deployable, quantized: bool, folder: Path) -> None:
        """Write to `folder` what `load` reads of the quantized denoiser, or of full precision; by default nothing.

        Raises `ptqbench.errors.UserError` where the engine cannot execute it, or lacks a package.
        """
        return None

    @abstractmethod
    def load(self, cell: Deployable, quantized: bool, folder: Path, threads: int) -> Program:
        """Load what `prepare` wrote, to be executed on `threads` CPU threads."""
