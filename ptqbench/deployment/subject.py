"""A cell's quantized denoiser as exporters and engines get it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.roles.exporter import Deployable, Inputs
from ptqbench.sampling.reference import calibration_states, probe_states
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext

ROWS = 32
"""Held-out states that an export is checked on at least; where there are more sampling steps, one at each."""


CALIBRATION_ROWS = 128
"""States that an export calibrates on what the simulation has no grid for."""


def deployable(ctx: RunContext, q: QuantizedDenoiser, save: Callable[[Path], object], seed: int) -> Deployable:
    """The quantized denoiser of a run's context, calibrated with `seed`; `save` writes what `ptqbench.load` reads."""

    def calibration(steps: range) -> Iterator[Inputs]:
        states = calibration_states(ctx, seed, ctx.experiment.calibration.trajectories)
        found = _spread(ctx, "calibration", states, steps, CALIBRATION_ROWS)
        batches = -(-len(found) // ctx.experiment.calibration.batch)
        for i in range(batches):  # of every step in each
            yield found.rows(slice(i, None, batches))

    return Deployable(q, ctx.model.denoiser, ctx.model.call, ctx.probe, held_out(ctx), calibration, save)


def held_out(ctx: RunContext, rows: int = ROWS) -> Inputs:
    """States of the held-out trajectories, spread evenly over sampling steps, trajectories and branches."""
    states, steps = probe_states(ctx, Costs())["x"], range(ctx.schedule.steps)
    return _spread(ctx, "probe", states, steps, max(rows, len(steps)))


def _spread(ctx: RunContext, block: str, states: Tensor, steps: range, rows: int) -> Inputs:
    """`rows` of the states (N, S or more, C, H, W) of a block's trajectories 0..N-1."""
    model, device = ctx.model, ctx.device
    place = torch.arange(rows, dtype=torch.int64, device="cpu")
    step, trajectory = steps.start + place * len(steps) // rows, place % len(states)
    branches = [dict(model.conditions_in(block, range(len(states)), branch)) for branch in model.branches]
    cond = {
        name: torch.stack([branches[i % len(branches)][name][trajectory[i]] for i in range(rows)]).to(device)
        for name in branches[0]
    }
    x, t = states[trajectory, step].to(device), ctx.schedule.timesteps[step].to(device)
    return Inputs(x, t, step, cond)
