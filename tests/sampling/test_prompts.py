"""A model that is told by text: calibration, held-out trajectories and images go through different prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from enginekit import cell_of, context, experiment

from ptqbench.errors import UserError
from ptqbench.measuring.features import check_metrics
from ptqbench.measuring.protocol import protocol, shared_prompts
from ptqbench.roles.metric import Metric
from ptqbench.roles.model import prompts_needed
from ptqbench.sampling.images import FULL, generate
from ptqbench.sampling.reference import calibration_set, predict_states, probe_states
from ptqbench.stage.cache import Costs


def told(folder, prompts: int):
    """A context whose model is told so many prompts, and the ids that it is asked for conditions of."""
    made = context(folder, experiment("evaluation.probes=3"))
    seen: list[int] = []

    def conditions(ids: Sequence[int], branch: str):
        seen.extend(ids)
        return {}

    texts = tuple(f"prompt {i}" for i in range(prompts))
    made.model = dataclasses.replace(made.model, prompts=texts, conditions=conditions)
    return made, seen


def asked(ctx, seen: list[int]) -> dict[str, list[int]]:
    """Which ids each block asks for."""
    _, found = ctx.probe, {}
    for block, run in {
        "images": lambda: generate(ctx, Costs(), FULL, ctx.predictor, range(4)),
        "calibration": lambda: calibration_set(ctx, Costs(), cell_of(ctx, "nearest").method, 0),
        "probe": lambda: probe_states(ctx, Costs()),
        "again": lambda: predict_states(ctx, ctx.predictor(), probe_states(ctx, Costs())["x"][:, 0], 0, "probe"),
    }.items():
        seen.clear()
        run()
        found[block] = sorted(set(seen), key=abs)
    return found


def test_each_block_goes_through_prompts_of_its_own(tmp_path):
    ctx, seen = told(tmp_path, 40)
    trajectories = ctx.experiment.calibration.trajectories
    calibration = [-1 - 2 * i for i in range(trajectories)]
    assert asked(ctx, seen) == {
        "images": [0, 1, 2, 3],
        "calibration": calibration,
        "probe": [-2, -4, -6],
        "again": [-2, -4, -6],
    }


def test_a_model_without_prompts_is_asked_for_the_same_ids_everywhere(tmp_path):
    ctx, seen = told(tmp_path, 0)
    trajectories = list(range(ctx.experiment.calibration.trajectories))
    assert asked(ctx, seen) == {"images": [0, 1, 2, 3], "calibration": trajectories, "probe": [0, 1, 2], "again": [0, 1, 2]}
    assert not {"prompts", "shared prompts"} & protocol(ctx).keys()


def test_too_few_prompts_are_told(tmp_path):
    e = experiment("evaluation.probes=3")
    enough = prompts_needed(e.sampling.images, e.calibration.trajectories, 3)
    assert shared_prompts(told(tmp_path, enough)[0]) == ""
    assert protocol(told(tmp_path, enough)[0])["prompts"] == enough
    assert shared_prompts(told(tmp_path, enough - 1)[0]).startswith("1 of ")
    assert f"{enough} different lines" in shared_prompts(told(tmp_path, 2)[0])
    # A line that stands there twice is one prompt.
    ctx, _ = told(tmp_path, enough)
    ctx.model = dataclasses.replace(ctx.model, prompts=(*ctx.model.prompts[:-1], ctx.model.prompts[0]))
    assert shared_prompts(ctx).startswith("1 of ")


def test_a_metric_that_compares_with_prompts_needs_some(tmp_path, monkeypatch):
    monkeypatch.setattr(Metric, "needs_prompts", True)
    check_metrics(told(tmp_path, 2)[0])
    with pytest.raises(UserError, match="the model is told none"):
        check_metrics(context(tmp_path, experiment()))
