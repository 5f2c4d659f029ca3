"""What a process keeps for all stages."""

from __future__ import annotations

from pathlib import Path

import torch
from enginekit import context


def test_what_is_first_asked_for_in_inference_mode_can_be_differentiated_through_later(tmp_path: Path) -> None:
    """A run whose stages lie in the cache loads its model where it first needs one: in a metric, which computes in that mode.
    A later cell may take gradients through the same model (Fisher's loss)."""
    ctx = context(tmp_path)
    with torch.inference_mode():
        loaded, schedule = ctx.model, ctx.schedule
    x = torch.zeros(2, *loaded.shape, requires_grad=True)
    cond = next(iter(loaded.conditions_of(range(2), ctx.device, "images").values()))
    noise = loaded.call(loaded.denoiser, x, schedule.timesteps[:1].repeat(2), cond)
    noise.square().sum().backward()
    assert x.grad is not None and bool(x.grad.any())
