"""From cells to verdicts, and everything that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from comparison_samples import one_seed
from paired_samples import LEFT_OUT, sampled_run

from ptqbench.results.compare import BETTER, REFUSED, UNSEEN, WORSE, attach_comparisons, comparisons, noise_floor
from ptqbench.results.compare_runs import compare_runs
from ptqbench.results.record import CellRecord, Comparison, Number, RunRecord

METHODS = {"qdiffusion": 5.0, "gacq": 4.5, "ptq4dm": 5.01, "minmax": 8.0}


def by_method(record: RunRecord, metric: str = "fd-digits@data") -> dict[str, Comparison]:
    return {c.method: c for c in comparisons(record) if c.metric == metric}


def test_verdicts_follow_the_better_side() -> None:
    record = sampled_run(METHODS)
    for metric in ("fd-digits@data", "psnr@fp"):
        found = by_method(record, metric)
        assert {m: c.verdict for m, c in found.items()} == {"gacq": BETTER, "ptq4dm": UNSEEN, "minmax": WORSE}
        assert all(c.detectable and c.detectable > 0 and c.seeds == 2 for c in found.values())
        assert not any(c.this_calibration_only for c in found.values())
    gacq = by_method(record)["gacq"]
    assert gacq.value is not None and gacq.baseline_value is not None
    assert gacq.difference == pytest.approx(gacq.value - gacq.baseline_value)


def test_never_a_verdict_for_full_precision_or_the_baseline() -> None:
    assert {c.method for c in comparisons(sampled_run(METHODS))} == {"gacq", "ptq4dm", "minmax"}


def test_correction_runs_over_methods_and_bits_of_one_metric() -> None:
    found = comparisons(sampled_run(METHODS, bits=("W4A32", "W4A8")))
    assert len(found) == 12
    for metric in ("fd-digits@data", "psnr@fp"):
        family = [c for c in found if c.metric == metric and c.p is not None and c.p_adjusted is not None]
        smallest = min(family, key=lambda c: c.p or 0.0)
        assert smallest.p_adjusted == pytest.approx(6 * (smallest.p or 0.0))
        assert all((c.p_adjusted or 0) >= (c.p or 0) for c in family)


def test_one_seed_says_so() -> None:
    found = comparisons(sampled_run(METHODS, seeds=1))
    assert found and all(c.this_calibration_only and c.seeds == 1 for c in found)


def other_protocol(cell: CellRecord) -> None:
    cell.metrics["fd-digits@data"].protocol = "ffff"


def no_protocol(cell: CellRecord) -> None:
    cell.metrics["fd-digits@data"].protocol = ""


def no_replicates(cell: CellRecord) -> None:
    cell.metrics["fd-digits@data"].replicates = []


def fewer_blocks(cell: CellRecord) -> None:
    cell.metrics["fd-digits@data"].replicates = [1.0, 2.0, 3.0]


def more_bits(cell: CellRecord) -> None:
    cell.bits_summary["average weight bits"] = 4.4


def not_finite(cell: CellRecord) -> None:
    cell.metrics["fd-digits@data"].replicates[3] = float("nan")


def other_seed(cell: CellRecord) -> None:
    cell.seed += 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_protocol, "another protocol (ffff against aaaa1111)"),
        (no_protocol, "no protocol id on one side"),
        (no_replicates, "no values with blocks of images left out"),
        (fewer_blocks, "unequal numbers of image blocks"),
        (not_finite, "a value is not finite"),
        (more_bits, "unequal bits: average weight bits 4.4 against 4.1"),
        (other_seed, "no calibration seed in common"),
    ],
)
def test_refusals(change: Callable[[CellRecord], None], words: str) -> None:
    record = sampled_run(METHODS)
    for cell in record.cells:
        if cell.method == "gacq":
            change(cell)
    found = by_method(record)
    assert found["gacq"].verdict == REFUSED
    assert words in found["gacq"].reason
    assert (found["gacq"].difference, found["gacq"].p_adjusted) == (None, None)
    assert ":" in found["gacq"].reason or ";" in found["gacq"].reason or "no interval" in found["gacq"].reason
    assert {found[m].verdict for m in ("ptq4dm", "minmax")} == {UNSEEN, WORSE}


def test_seeds_under_two_protocols_are_refused() -> None:
    record = sampled_run(METHODS)
    next(c for c in record.cells if c.method == "gacq").metrics["fd-digits@data"].protocol = "ffff"
    assert "several protocols" in by_method(record)["gacq"].reason


def test_a_failed_seed_leaves_the_common_ones() -> None:
    record = sampled_run(METHODS, seeds=3)
    next(c for c in record.cells if c.method == "gacq").status = "failed"
    found = by_method(record)
    assert (found["gacq"].seeds, found["minmax"].seeds) == (2, 3)


def test_the_noise_floor_is_full_precision_against_itself() -> None:
    record = sampled_run(METHODS)
    own = record.cells[0].metrics["fd-digits@data"]
    own.replicates = [x * 5 for x in LEFT_OUT]
    assert noise_floor(record, "fd-digits@data") == pytest.approx(0.05 * (2 * 19) ** 0.5)
    assert {m: c.inside_floor for m, c in by_method(record).items()} == {"gacq": False, "ptq4dm": True, "minmax": False}
    assert not any(c.inside_floor for c in by_method(record, "psnr@fp").values())
    own.replicates = []
    assert noise_floor(record, "fd-digits@data") is None
    assert not any(c.inside_floor for c in comparisons(record))


def test_the_noise_floor_is_what_two_blocks_of_noise_differ_by() -> None:
    """Means of independent values: the root mean square of differences of many pairs of full-precision rows."""
    rng = np.random.default_rng(0)
    floors, differences = [], []
    for _ in range(300):
        first, second = rng.normal(size=(2, 20))
        record = sampled_run(METHODS)
        record.cells[0].metrics["error"] = Number(first.mean(), 0.0, 0.0, 20, replicates=list((first.sum() - first) / 19))
        floors.append(noise_floor(record, "error"))
        differences.append(first.mean() - second.mean())
    assert np.mean(floors) == pytest.approx(np.std(differences), rel=0.1)


def test_without_a_baseline_there_is_nothing_to_compare_and_without_replicates_nothing_is() -> None:
    assert {c.verdict for c in comparisons(one_seed())} == {REFUSED}
    assert comparisons(replace(sampled_run(METHODS), baseline="nobody")) == []


def test_round_trip_through_json() -> None:
    record = attach_comparisons(sampled_run(METHODS))
    assert len(record.comparisons) == 6
    assert RunRecord.from_json(record.to_json()) == record
    older = json.loads(record.to_json())
    del older["comparisons"]
    assert RunRecord.from_json(json.dumps(older)).comparisons == []


def test_variants_of_an_axis_that_does_not_concern_the_baseline_meet_its_plain_row() -> None:
    record = sampled_run(METHODS)
    cells = [replace(c, variant="rate=1") if c.method == "gacq" else c for c in record.cells]
    found = by_method(replace(record, cells=cells))
    assert set(found) == {"gacq", "ptq4dm", "minmax"}
    assert found["gacq"].variant == "rate=1"
    assert found["gacq"].baseline_value == by_method(record)["gacq"].baseline_value


def test_a_variant_meets_the_baselines_own_variant_where_there_is_one() -> None:
    plain, other = sampled_run(METHODS), sampled_run({"qdiffusion": 4.0, "gacq": 4.5})
    cells = [*plain.cells, *(replace(c, variant="rate=1") for c in other.cells)]
    found = [c for c in comparisons(replace(plain, cells=cells)) if c.metric == "fd-digits@data" and c.method == "gacq"]
    bases = {c.variant: c.baseline_value for c in found}
    assert set(bases) == {"", "rate=1"}
    assert bases["rate=1"] == pytest.approx((bases[""] or 0) - 1, abs=0.3)


def swept(record: RunRecord, *variants: str, method: str) -> list[CellRecord]:
    """The cells of a method once for each variant."""
    own = [c for c in record.cells if c.method == method]
    return [replace(c, id=f"{c.id}/{variant}", variant=variant) for variant in variants for c in own]


def test_of_two_axes_one_that_concerns_the_baseline_chooses_its_row() -> None:
    """A list as a value has commas of its own, which part no labels."""
    plain, other = sampled_run(METHODS), sampled_run({"qdiffusion": 4.0, "gacq": 4.5})
    low, high = "range=[1,2]", "range=[1,3]"
    cells = [*swept(plain, low, method="qdiffusion"), *swept(other, high, method="qdiffusion")]
    both = [f"{axis},loss={loss}" for axis in (low, high) for loss in ("4", "[0,2]")]
    record = replace(plain, cells=[*cells, *swept(plain, *both, method="gacq")])
    found = {c.variant: c.baseline_value for c in comparisons(record) if c.metric == "fd-digits@data"}
    assert list(found) == both
    for variant, value in found.items():
        assert value == pytest.approx(5.0 if variant.startswith(low) else 4.0, abs=0.3)


def test_a_metric_that_never_has_replicates_is_refused_and_stops_nothing() -> None:
    # A kernel distance over subsets gives none in any cell, the baseline's included.
    record = sampled_run(METHODS)
    for cell in record.cells:
        if "psnr@fp" in cell.metrics:
            cell.metrics["psnr@fp"].replicates = []
    assert {c.verdict for c in by_method(record, "psnr@fp").values()} == {REFUSED}
    assert by_method(record)["gacq"].verdict == BETTER


def test_values_of_two_runs_are_over_the_seeds_of_their_difference() -> None:
    first, second = sampled_run(METHODS, seeds=3), sampled_run(METHODS, seeds=3, seed=1)
    for record, seed in ((first, 0), (second, 2)):
        record.cells[0].metrics = {}
        for cell in record.cells:
            if cell.method == "gacq" and cell.seed == seed:
                del cell.metrics["fd-digits@data"]
    (found,) = (c for c in compare_runs(first, second) if (c.method, c.metric) == ("gacq", "fd-digits@data"))
    assert found.seeds == 1
    assert found.value is not None and found.baseline_value is not None
    assert found.difference == pytest.approx(found.value - found.baseline_value)


def test_full_precision_is_no_comparison_of_the_family() -> None:
    first, second = sampled_run(METHODS), sampled_run(METHODS, seed=1)
    for record in (first, second):
        for name, number in record.cells[0].metrics.items():
            record.cells[0].metrics[name] = replace(number, replicates=LEFT_OUT)
    found = [c for c in compare_runs(first, second) if c.metric == "fd-digits@data"]
    tested = [c for c in found if c.method != "full-precision"]
    assert [(c.p_adjusted, c.verdict) for c in found if c not in tested] == [(None, "")]
    least = min(tested, key=lambda c: c.p or 0.0)
    assert len(tested) == 4 and least.p and least.p_adjusted == pytest.approx(min(1.0, 4 * least.p))
    # What would have been seen is as of a family of four, too.
    alone = [replace(record, cells=record.cells[1:]) for record in (first, second)]
    assert [c.detectable for c in compare_runs(*alone) if c.metric == "fd-digits@data"] == [c.detectable for c in tested]
