"""Network quantizers: libraries that quantize a whole denoiser their own way, as rows beside methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ptqbench.quant.grid import QuantSpec
from ptqbench.roles.base import WithOptions


@dataclass(frozen=True)
class CalibrationCalls:
    """`count` calibration samples, which the method's sampler chose like those of any other row.

    `feed(denoiser)` calls a denoiser on all of them, as sampling does; `arguments(denoiser)` are positional and keyword
    arguments of these calls, for libraries that want to call the denoiser themselves.
    """

    count: int
    feed: Callable[[nn.Module], None]
    arguments: Callable[[nn.Module], list[tuple[tuple[Any, ...], dict[str, Any]]]]


@dataclass(frozen=True)
class LayerGrids:
    """What a library made of a layer: its grids (None = floating point), how many scales its weight has, and what else a reader
    of the ledger should know."""

    weight: QuantSpec | None
    activation: QuantSpec | None
    scales: int = 1
    why: str = ""


@dataclass(frozen=True)
class QuantizedNetwork:
    """A quantized module, called like the denoiser; its layers by their names in the denoiser, where others are as they were.

    `executed` says whether the module multiplies integers; else it rounds, or stores its weights at their bits, and
    multiplies in floating point.
    """

    module: nn.Module
    layers: Mapping[str, LayerGrids]
    executed: bool = False


class NetworkQuantizer(WithOptions, ABC):
    """Built as `Class(options)`. `packages` are the library's, whose versions name its results; `extra` installs them."""

    packages: tuple[str, ...] = ()
    extra = ""

    @abstractmethod
    def quantize(self, denoiser: nn.Module, bits: tuple[int, int], calibration: CalibrationCalls) -> QuantizedNetwork:
        """Quantize a copy of the denoiser to bits of weights and activations, 32 for none; the copy may be changed.

        Raises `ptqbench.errors.CellFailedError` for bits that the library does not have.
        """
