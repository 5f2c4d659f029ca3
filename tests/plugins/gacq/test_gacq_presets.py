"""The presets `gacq` and `gacq-tfmq` as cells; where scores live."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from enginekit import cell_of, context, experiment, recipe, run_cell

from ptqbench.roles.weighter import InnerProblem
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.weighter import GacqWeighter


@pytest.mark.parametrize("preset", ["gacq", "gacq-tfmq"])
def test_both_presets_give_rows(tmp_path: Path, preset: str) -> None:
    raw = recipe()
    short: dict[str, Any] = {"iterations": 3, "batch": 8}
    mine: dict[str, Any] = {"method": preset, "reconstruction": short, "weighter": {"validation": 0.25, "groups": 2}}
    if preset == "gacq":
        mine |= {"reconstruction": {**short, "step_iterations": 2}, "sampler": {"points": 5}}
    raw["methods"] = {"mine": mine}
    raw["recipe"]["baseline"] = "mine"
    if preset == "gacq-tfmq":
        raw["model"]["network"] = "unet"
    ctx = context(tmp_path, experiment(raw=raw))
    cell = cell_of(ctx, "mine")
    chosen = cell.method.weighter.options
    assert (chosen.temperature, chosen.groups, chosen.validation) == (1.0, 2, 0.25)
    record = run_cell(ctx, cell)
    assert (record.status, record.reason) == ("ok", "")
    assert list(tmp_path.glob("reconstruct-rounding/*/weighter-*.safetensors"))


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
