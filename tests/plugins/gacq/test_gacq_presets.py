"""The presets `gacq` and `gacq-tfmq` as cells; where scores live."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from ptqbench.roles.weighter import InnerProblem
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.weighter import GacqWeighter


def test_scores_live_where_the_losses_are() -> None:
    """Trainables on an accelerator (here: torch's device without data), sampling steps on the CPU."""
    problem = SimpleNamespace(train_steps=torch.zeros(3, dtype=torch.int64), params={"a": torch.zeros(2, device="meta")})
    weighter = GacqWeighter(GacqOptions())
    weighter.begin_unit("unit", "rounding", cast(InnerProblem, problem), torch.Generator())
    assert weighter.scores.device.type == "meta"


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "before", "every": 8},
        {"schedule": "each", "scope": "batch"},
        {"gain": True},
        {"matching": 0.0, "matching_space": "trainables"},
        {"matching": 0.0, "matching_measure": "cosine"},
    ],
)
def test_an_option_that_would_change_nothing_is_refused(options) -> None:
    with pytest.raises(ValueError, match=f"{[*options][-1]} changes nothing here"):
        GacqOptions(**options)
