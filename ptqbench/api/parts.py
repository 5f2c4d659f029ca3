"""What a quantized denoiser says of itself: from which weights, with which quantizers, how, and what it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ptqbench.fitting.hooks import KeptHook
from ptqbench.measuring.state_hash import weights_hash
from ptqbench.quant.plan import Probe
from ptqbench.recipe.experiment import SiteChoice
from ptqbench.results.record import Budget


@dataclass(frozen=True)
class Report:
    """How a denoiser was quantized.

    `method` is the method's table with everything that its preset and defaults filled in; `fits` has what each phase says of
    each unit, the fields of `ptqbench.results.fits.FitQuality` ("iterations" alone, 0, of one with nothing to learn); `seconds`
    what each stage took; `bytes` what the quantized denoiser weighs and `full_precision_bytes` what it weighed; `state_hash`
    names codes and grids bit for bit; `notes` what a reader should know.
    """

    name: str
    bits: str
    seed: int
    method: dict[str, Any]
    budget: Budget
    bytes: int
    full_precision_bytes: int
    state_hash: str
    fits: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Base:
    """The full-precision weights that were quantized: class of the module, number of parameters, SHA-256 (hex) of its state."""

    kind: str
    parameters: int
    sha256: str

    @classmethod
    def of(cls, model: nn.Module) -> Base:
        return cls(type(model).__name__, sum(p.numel() for p in model.parameters()), weights_hash(model))

    def __str__(self) -> str:
        return f"{self.kind} of {self.parameters:,} parameters, SHA-256 {self.sha256[:12]}"


@dataclass(frozen=True)
class Parts:
    """What a quantized denoiser is put together from, beside its plan and its tensors.

    `base` names the weights that were quantized and `probe` has what was seen of their network; `timesteps` (S,) are those of
    the sampling steps, `weights` and `activations` the chosen quantizers, `hooks` fitted corrections of the sampler, and `run`
    the cell of a run that it is (None from Python).
    """

    base: Base
    probe: Probe
    timesteps: Tensor
    weights: SiteChoice
    activations: SiteChoice
    hooks: tuple[KeptHook, ...] = ()
    run: dict[str, Any] | None = None
