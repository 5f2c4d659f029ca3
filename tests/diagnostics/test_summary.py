"""From single findings to arms: merging, pairing, aggregation, cost, and the data file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from ptqbench.diagnostics.arms import Arm, alignments, arms_of, is_counterpart
from ptqbench.diagnostics.learned import learned_weights, relative_to_start
from ptqbench.diagnostics.records import noise_errors, weighter_costs
from ptqbench.diagnostics.summary import as_data, group_ranges, plain, units_as_data
from ptqbench.results.record import CellRecord, Number, StageCost

STEPS = 10


def arm_named(arms: list[Arm], label: str) -> Arm:
    return next(arm for arm in arms if arm.label == label)


def test_cells_with_one_stored_result_are_one_finding(observations):
    arms = arms_of(observations)
    assert [arm.label for arm in arms] == [
        "qdiffusion W4A32+W4A8, rounding",
        "gacq W4A32+W4A8, rounding",
        "qdiffusion W4A8, steps",
        "gacq W4A8, steps",
    ]
    assert all(arm.seeds == [0, 1, 2] for arm in arms)


def test_the_counterpart_differs_in_its_weighter_alone(observations, cells):
    arms = arms_of(observations)
    assert arm_named(arms, "gacq W4A8, steps").counterpart == "qdiffusion W4A8, steps"
    assert arm_named(arms, "qdiffusion W4A8, steps").counterpart == ""
    by_id = {cell.id: cell for cell in cells}
    gacq, plain_cell = by_id["gacq/W4A8/seed0"], by_id["qdiffusion/W4A8/seed0"]
    assert is_counterpart(gacq, plain_cell)
    assert not is_counterpart(plain_cell, gacq)
    assert not is_counterpart(gacq, by_id["qdiffusion/W4A32/seed0"])


def test_another_reconstruction_is_no_counterpart(observations):
    from enginekit import experiment

    made = experiment("methods.gacq.reconstruction.iterations=7", "sweep.seeds=[0]", methods=("qdiffusion", "gacq"))
    qdiffusion, gacq = [cell for cell in made.cells if cell.method]
    assert not is_counterpart(gacq, qdiffusion)


def off_diagonal(unit, moment):
    cosine = unit.observed["cosine"][moment]
    return np.mean([cosine[i, j] for i in range(5) for j in range(5) if i != j])


def test_alignment_and_its_paired_difference(observations):
    arms = arms_of(observations)
    found = {a.arm: a for a in alignments(arms)}
    ours, theirs = (arm_named(arms, f"{name} W4A8, steps") for name in ("gacq", "qdiffusion"))
    for moment in range(5):
        own, base = ([np.mean([off_diagonal(u, moment) for u in row.observation.units]) for row in arm.rows]
                     for arm in (ours, theirs))  # fmt: skip
        value, difference = found[ours.label].value[moment], found[ours.label].difference[moment]
        half = stats.t.ppf(0.975, 2) * np.std(own, ddof=1) / math.sqrt(3)
        assert (value.mean, value.high - value.mean) == (pytest.approx(np.mean(own)), pytest.approx(half))
        apart = [np.mean([u.observed["cosine"][moment][0, 4] for u in row.observation.units]) for row in ours.rows]
        assert found[ours.label].ends[moment].mean == pytest.approx(np.mean(apart))
        paired = stats.ttest_rel(own, base).confidence_interval()
        assert [difference.low, difference.high] == pytest.approx(list(paired))
    assert found[theirs.label].difference == [] and found[theirs.label].loss_ratio == []


def test_loss_ratio_is_a_geometric_mean_over_units(observations):
    arms = arms_of(observations)
    found = {a.arm: a for a in alignments(arms)}["gacq W4A8, steps"].loss_ratio
    ours, theirs = (arm_named(arms, f"{name} W4A8, steps") for name in ("gacq", "qdiffusion"))
    for group in range(5):
        ratios = []
        for seed in range(3):
            pairs = zip(ours.row(seed).observation.units, theirs.row(seed).observation.units, strict=True)
            product = math.prod(a.observed["loss"][-1, group] / b.observed["loss"][-1, group] for a, b in pairs)
            ratios.append(math.sqrt(product))
        assert found[group].mean == pytest.approx(np.mean(ratios))


def test_learned_weights_have_mean_one_whatever_their_scale(observations):
    arms = arms_of(observations)
    (first, _) = learned_weights(arms, STEPS)
    for row in arm_named(arms, first.arm).rows:
        for unit in row.observation.units:
            unit.report["weights"] *= 7.0
            unit.observed["agreement.weight"] *= 7.0
    (again, _) = learned_weights(arms, STEPS)
    assert again.by_step.middle == pytest.approx(first.by_step.middle)
    assert again.agreement.weight == pytest.approx(first.agreement.weight, nan_ok=True)


def test_learned_weights_by_timestep_and_effective_size(observations):
    arms = arms_of(observations)
    found = next(x for x in learned_weights(arms, STEPS) if x.arm == "gacq W4A8, steps")
    units = [unit for row in arm_named(arms, found.arm).rows for unit in row.observation.units]
    for step in range(STEPS):
        own = [
            weight / np.mean(unit.report["weights"])
            for unit in units
            for weight, s in zip(unit.report["weights"], unit.observed["train.step"], strict=True)
            if s == step
        ]
        assert found.by_step.middle[step] == pytest.approx(np.mean(own))
        assert found.by_step.low[step] == pytest.approx(np.percentile(own, 10))
    shares = [sum(u.report["weights"]) ** 2 / sum(u.report["weights"] ** 2) / 60 for u in units]
    assert found.effective.mean == pytest.approx(np.mean(shares))
    ranks = [stats.spearmanr(u.observed["agreement.weight"], u.observed["agreement"])[0] for u in units]
    assert found.rank.mean == pytest.approx(np.mean(ranks))
    sizes = [
        np.median([abs(u.report["matching"].mean()) / u.report["validation"].mean() for u in row.observation.units])
        for row in arm_named(arms, found.arm).rows
    ]
    assert found.balance.mean == pytest.approx(np.mean(sizes))
    assert len(found.agreement.count) == 50 and found.agreement.count.sum() == 30 * len(units)


def test_weights_of_something_else_than_training_samples_do_not_count(observations):
    arms = arms_of(observations)
    for arm in arms:
        for row in arm.rows:
            for unit in row.observation.units:
                if "weights" in unit.report:
                    unit.report["weights"] = np.ones(4)
    assert learned_weights(arms, STEPS) == []


def test_terms_are_relative_to_their_first_tenth():
    curve = np.array([-2.0, -4.0, *np.linspace(-3, 1, 18)])
    assert relative_to_start(curve) == pytest.approx(curve / 3.0)
    assert np.isnan(relative_to_start(np.zeros(4))).all()


def test_terms_of_units_with_fewer_updates(observations):
    arms = [arm for arm in arms_of(observations) if arm.label == "gacq W4A8, steps"]
    unit = arms[0].rows[1].observation.units[0]
    unit.report["matching"] = unit.report["matching"][:5]
    (found,) = learned_weights(arms, STEPS)
    assert (len(found.terms["validation"].middle), len(found.terms["matching"].middle)) == (12, 5)
    curves = [u.report["matching"] for row in arms[0].rows for u in row.observation.units]
    expected = np.median([curve[:5] / abs(curve[0]) for curve in curves], axis=0)
    assert found.terms["matching"].middle == pytest.approx(expected)


def test_cost_of_the_observed_fits(observations):
    found = {cost.title: cost for cost in weighter_costs(observations, {})}
    assert set(found) == {"gacq W4A32", "gacq W4A8"}
    cost = found["gacq W4A8"]
    assert (cost.counterpart, cost.source, cost.seeds) == ("qdiffusion W4A8", "diagnosis", [0, 1, 2])
    assert cost.seconds == [10.0, 12.0, 14.0] and cost.counterpart_seconds == [8.0, 10.0, 12.0]
    assert cost.ratio.mean == pytest.approx((10 / 8 + 12 / 10 + 14 / 12) / 3)


def record(cell, seconds: float, error: list[float]) -> CellRecord:
    cost = {
        "reconstruct-rounding": StageCost(seconds, 1.0),
        "reconstruct-steps": StageCost(1.0, 1.0),
        "images": StageCost(9, 1),
    }
    detail = {"t": [901.0, 1.0], "error": error}
    metrics = {"eps-error": Number(1.0, 1.0, 1.0, 4, detail=detail, protocol="eeee"), "fd": Number(1, 1, 1, 4)}
    return CellRecord(cell.id, cell.name, cell.bits, "", cell.seed, "ok", metrics=metrics, cost=cost)


def test_finished_runs_are_preferred_for_the_cost(observations, cells):
    records = {cell.id: record(cell, 2.0 + 3.0 * (cell.name == "gacq"), [1.0, 2.0]) for cell in cells}
    cost = weighter_costs(observations, records)[-1]
    assert (cost.source, cost.ratios) == ("run", [2.0, 2.0, 2.0])
    del records["qdiffusion/W4A8/seed1"]
    assert {c.title: c.source for c in weighter_costs(observations, records)} == {"gacq W4A32": "run", "gacq W4A8": "diagnosis"}


def test_noise_error_by_timestep_is_averaged_over_seeds(cells):
    records = {cell.id: record(cell, 1.0, [float(cell.seed), 4.0]) for cell in cells if cell.bits == "W4A8"}
    (chart,) = noise_errors(records)
    assert chart.title.startswith("eps-error")
    assert chart.rows[:2] == [("qdiffusion", "W4A8", "", 901.0, 1.0), ("qdiffusion", "W4A8", "", 1.0, 4.0)]
    assert [row[0] for row in chart.rows[2:]] == ["gacq", "gacq"]


def test_group_ranges():
    assert group_ranges([9, 7, 5, 3, 1], 2) == [(9, 5), (3, 1)]


def test_the_data_file_has_every_number_and_says_null(observations, summarized):
    units = observations[0].units
    units[0].observed["loss"][:, 2] = np.nan
    units[1].observed["loss"][:, 2] = np.nan
    summary = summarized(observations)
    data = json.loads(json.dumps(as_data(summary), allow_nan=False))
    first = data["arms"][0]
    assert first["rows"][0]["loss"][4][2] is None
    assert first["rows"][1]["alignment"] == pytest.approx(summary.arms[0].rows[1].alignment.tolist(), rel=1e-5)
    assert np.asarray(first["rows"][2]["cosine"]).shape == (5, 5, 5)
    assert data["moments"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {"learned", "costs", "noise_errors", "alignments"} <= data.keys()
    by_unit = json.loads(json.dumps(units_as_data(summary), allow_nan=False))["rows"]
    assert len(by_unit) == 12
    found = by_unit[-1]["units"][1]["norm"]
    assert np.asarray(found) == pytest.approx(summary.arms[-1].rows[-1].observation.units[1].observed["norm"], rel=1e-5)


def test_plain_data_is_rounded():
    assert plain({"a": np.float64(1 / 3), "b": (np.int64(2), math.inf), "c": None}) == {
        "a": 0.333333,
        "b": [2, None],
        "c": None,
    }
