"""A cell's quantized denoiser as exporters and engines get it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.roles.exporter import Deployable, Inputs
from ptqbench.sampling.reference import probe_states
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext

ROWS = 32
"""Held-out states that an export is checked on: a few rows at every one of up to as many sampling steps."""


def deployable(ctx: RunContext, q: QuantizedDenoiser, save: Callable[[Path], object]) -> Deployable:
    """The quantized denoiser of a run's context; `save` writes the folder that `ptqbench.load` reads."""
    return Deployable(q, ctx.model.denoiser, ctx.model.call, ctx.probe, held_out(ctx), save)


def held_out(ctx: RunContext, rows: int = ROWS) -> Inputs:
    """States of the held-out trajectories, spread evenly over sampling steps, trajectories and branches."""
    states, model, device = probe_states(ctx, Costs())["x"], ctx.model, ctx.device
    trajectories, steps = states.shape[:2]
    place = torch.arange(rows, dtype=torch.int64, device="cpu")
    step, trajectory = place * steps // rows, place % trajectories
    branches = [dict(model.conditions(range(trajectories), branch)) for branch in model.branches]
    cond = {
        name: torch.stack([branches[i % len(branches)][name][trajectory[i]] for i in range(rows)]).to(device)
        for name in branches[0]
    }
    x, t = states[trajectory, step].to(device), ctx.schedule.timesteps[step].to(device)
    return Inputs(x, t, step, cond)
