"""Sites through which nothing passes."""

from __future__ import annotations

import pytest
import torch
from enginekit import cell_of, context, experiment, run_cell
from torch import nn

from ptqbench.measuring.constants import Watch

METRICS = 'evaluation.metrics=["eps-error"]'


@pytest.fixture
def ctx(tmp_path):
    return context(tmp_path, experiment("model.network=plain", METRICS, methods=("nearest",)))


def test_a_grid_that_is_too_coarse_for_its_site_is_in_the_record(ctx):
    """The floor of scales is 1e-8: values of 1e-10 round to zero in every step."""
    with torch.no_grad():
        ctx.model.denoiser.attention.qkv.weight *= 1e-10
        ctx.model.denoiser.attention.qkv.bias *= 1e-10
    record = run_cell(ctx, cell_of(ctx, "nearest"))
    assert record.status == "ok", record.reason
    steps = ctx.schedule.steps
    # The products' operands still differ by the bias, which no grid rounds. What comes after them is 0 already.
    assert record.constant == dict.fromkeys(("attention.qkv weight", "attention q", "attention k", "attention v"), steps)


def test_what_rounds_to_several_values_is_not(ctx):
    assert run_cell(ctx, cell_of(ctx, "nearest")).constant == {}
    full = run_cell(ctx, ctx.experiment.cells[0])
    assert full.constant == {}


def test_faint_activations_are_told_by_site(ctx):
    with torch.no_grad():
        ctx.model.denoiser.first.weight *= 1e-10
        ctx.model.denoiser.first.bias *= 1e-10
    found = run_cell(ctx, cell_of(ctx, "nearest"))
    assert found.status == "ok", found.reason
    assert found.constant["down.shortcut input"] == ctx.schedule.steps
    assert "last input" not in found.constant


class Rounds(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)


def test_one_call_that_lets_something_pass_is_enough():
    module = Rounds()
    watch = Watch(module)
    assert not watch.constant(), "it was not called"
    module(torch.tensor([0.1, 0.2]))
    assert watch.constant()
    module(torch.tensor([0.1, 0.2]))
    module(torch.tensor([0.1, 2.0]))
    assert not watch.constant()
    module(torch.tensor([3.0, 3.0]))
    assert not watch.constant(), "there was nothing to lose"
