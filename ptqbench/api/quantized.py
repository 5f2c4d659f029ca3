"""A quantized denoiser as a module to call, with what it is: plan, ledger, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ptqbench.api.folder import write
from ptqbench.api.parts import Parts, Report
from ptqbench.api.states import named_arguments, timesteps_of
from ptqbench.api.tables import ledger_row, table
from ptqbench.measuring.accounting import BitLedger
from ptqbench.quant.layer import StepContext
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Plan
from ptqbench.quant.standin import StandIn
from ptqbench.roles.hook import SamplerHook


class Quantized(StandIn):
    """A denoiser whose layers round weights and inputs to their grids, in simulation; called like the one it was made from.

    The first two arguments of a call are x (B, ...) and its timesteps, one for all rows or (B,). A grid that differs between
    sampling steps takes the parameters of the step whose timestep is nearest. `timesteps` (S,) are those of the sampling steps.
    Attributes that it does not have are the denoiser's (`config`, `dtype`), so that pipelines take it in the denoiser's place.

    `report` says how it was made, `parts` from what, `bit_ledger` what it weighs.
    """

    stands_for = "denoiser"
    timesteps: Tensor

    def __init__(self, quantized: QuantizedDenoiser, parts: Parts, ledger: BitLedger, report: Report) -> None:
        super().__init__()
        self.denoiser = quantized.module
        self.quantized, self.parts, self.bit_ledger, self.report = quantized, parts, ledger, report
        device = next(quantized.module.parameters()).device
        self.register_buffer("timesteps", parts.timesteps.to(device), persistent=False)

    @property
    def plan(self) -> Plan:
        """The grids of every layer and attention."""
        return self.quantized.plan

    @property
    def context(self) -> StepContext:
        """The sampling step of each row; a call sets it from its timesteps."""
        return self.quantized.context

    @property
    def ledger(self) -> Any:
        """A row for each layer and each site of an attention: grids, bytes, multiply-accumulates, exceptions; a DataFrame where
        pandas is installed, else a list of dicts."""
        return table(map(ledger_row, self.bit_ledger.rows))

    @property
    def hooks(self) -> tuple[SamplerHook, ...]:
        """What corrects predictions while sampling, in order: the sampler's business, and no part of this module's output."""
        return tuple(hook.create(self.timesteps.device) for hook in self.parts.hooks)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the denoiser gives for x at timesteps t, its weights and activations on their grids. x and t are the first two
        arguments of its own, by place or by name."""
        x, t = args[:2] if len(args) > 1 else [*named_arguments(self.denoiser, args, kwargs).values()][:2]
        self.context.step = self.step_of(t).expand(len(x))
        return self.denoiser(*args, **kwargs)

    def step_of(self, t: Tensor | float) -> Tensor:
        """The sampling step whose timestep is nearest to each of t, the earlier one of two."""
        return (timesteps_of(t, self.timesteps.device)[:, None] - self.timesteps[None, :]).abs().argmin(1)

    def save(self, folder: str | Path) -> Path:
        """Write the quantized denoiser to a folder, which `ptqbench.load` reads; the files of an earlier one are replaced.

        Returns the folder. Raises `UserError` if it cannot be written, or if grids were converted or changed since it was made.
        """
        return write(Path(folder), self.quantized, self.parts, self.report)
