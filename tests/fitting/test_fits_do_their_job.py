"""Whether learned rounding does its job, on real units of every kind of the digits model."""

from __future__ import annotations

from pathlib import Path

import pytest
from digitskit import DigitsUnits

from ptqbench.results.fits import MOST_HARDENING, MOST_UNDECIDED, FitQuality, finish

BLOCKS = {
    "an embedding's layer": ("time_embedding.linear_1", 0.45),
    # Nine weights a channel, of a single input channel: rounding to nearest is nearly the best.
    "the first layer": ("conv_in", 0.97),
    "a residual block": ("mid_block.resnets.0", 0.45),
    "attention": ("mid_block.attentions.0", 0.85),
    "a convolution that reduces": ("down_blocks.1.downsamplers.0.conv", 0.35),
    "a convolution that enlarges": ("up_blocks.0.upsamplers.0.conv", 0.42),
    "a decoder's block with a skip": ("up_blocks.0.resnets.0", 0.48),
    "the last layer": ("conv_out", 0.55),
}
"""By kind of unit: its name, and the share of the loss of rounding to nearest that is left at most, on held-out samples."""

TEMPORAL, TEMPORAL_LEFT = "temporal block", 0.3


@pytest.fixture(scope="module")
def fits(cache: Path) -> dict[str, FitQuality]:
    """A finished setting: 240 mini-batches of 8 at a rate of 0.1."""
    found = DigitsUnits(cache).fit(*(name for name, _ in BLOCKS.values()))
    return found | DigitsUnits(cache, "temporal").fit(TEMPORAL)


LEFT = {**BLOCKS, "what is computed from the timestep": (TEMPORAL, TEMPORAL_LEFT)}


@pytest.mark.parametrize("kind", LEFT)
def test_learned_rounding_beats_rounding_to_nearest(fits: dict[str, FitQuality], kind: str) -> None:
    name, left = LEFT[kind]
    held_out = fits[name].held_out
    assert held_out is not None
    assert held_out.hard < left * held_out.before


@pytest.mark.parametrize("kind", BLOCKS)
def test_hardening_costs_under_five_percent_of_a_finished_fit(fits: dict[str, FitQuality], kind: str) -> None:
    found = finish([fits[BLOCKS[kind][0]]])
    assert found is not None
    assert found.undecided <= MOST_UNDECIDED and found.hardening <= MOST_HARDENING


def test_hardening_costs_the_temporal_block_under_five_percent_of_what_is_at_stake(fits: dict[str, FitQuality]) -> None:
    """Its soft loss is no measure: on the few different inputs that it has, one for each sampling step, soft weights fit nearly
    anything by shares of a step that count as decided."""
    found, losses = finish([fits[TEMPORAL]]), fits[TEMPORAL].training
    assert found is not None and found.undecided <= MOST_UNDECIDED
    assert losses.hard - losses.soft <= MOST_HARDENING * losses.before
