"""The sentences that reports open with: who won, in which metric, by how much, and what could not be told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from comparison_samples import cell, failed, one_seed, run
from paired_samples import sampled_run

from ptqbench.results.compare import BETTER, REFUSED, UNSEEN, WORSE, attach_comparisons
from ptqbench.results.headline import amount, headline, would_have_been_seen
from ptqbench.results.record import Comparison, RunRecord

FIGURES = (0.002, 24.0, 4.0, 0.6, 0.003)
PM, MINUS = "\N{PLUS-MINUS SIGN}", "\N{MINUS SIGN}"


def compared(method: str, metric: str, verdict: str, difference: float = -1.0, **changed: object) -> Comparison:
    """A comparison with a baseline value of 10, an interval of 0.5 to each side, and 2 that would have been seen."""
    found = Comparison(method, "W4A8", "", metric, "qdiffusion", verdict, value=10 + difference, baseline_value=10.0)
    found = replace(found, difference=difference, low=difference - 0.5, high=difference + 0.5, detectable=2.0)
    return replace(found, **changed)  # type: ignore[arg-type]


def record(*comparisons: Comparison, methods: tuple[str, ...] = ("qdiffusion", "gacq", "ptq4dm")) -> RunRecord:
    return replace(run(*(cell(method, "W4A8", s, FIGURES) for method in methods for s in (0, 1))), comparisons=[*comparisons])


def said(of: RunRecord) -> dict[str, str]:
    return {line.label: line.text for line in headline(of)}


def test_who_won_in_which_metric_by_how_much_and_what_stays_open() -> None:
    found = said(
        record(
            compared("gacq", "a", BETTER),
            compared("gacq", "b", BETTER, 2.0, better="higher"),
            compared("gacq", "c", UNSEEN),
            compared("ptq4dm", "a", UNSEEN, 0.1),
            compared("ptq4dm", "b", UNSEEN, 0.1),
        )
    )
    assert found["W4A8"] == (
        f"Better than qdiffusion: gacq (a {MINUS}10.0 {PM} 5.0 %, b +2.00 {PM} 0.50; 1 metric unclear). "
        "Not told apart: ptq4dm (a difference of 20 % in a would have been seen)."
    )


def test_the_first_metric_is_named_where_it_is_what_stays_open() -> None:
    found = said(record(compared("gacq", "a", UNSEEN), compared("gacq", "b", BETTER), compared("gacq", "c", UNSEEN)))
    assert "gacq (b" in found["W4A8"] and "; a and 1 other metric unclear)" in found["W4A8"]


def test_nobody_won() -> None:
    worse = compared("gacq", "a", WORSE, 40.0)
    text = said(record(worse, compared("ptq4dm", "a", UNSEEN)))["W4A8"]
    assert text.startswith("Nothing is seen to beat qdiffusion.")
    assert "Worse: gacq (a 5.0 times as high)." in text
    mixed = said(record(compared("gacq", "a", BETTER), compared("gacq", "b", WORSE, 1.0)))["W4A8"]
    assert "without being worse elsewhere" in mixed
    assert f"Better and worse: gacq (a {MINUS}10.0 {PM} 5.0 %, but b +10.0 {PM} 5.0 %)." in mixed


def test_failed_and_refused_methods_are_told() -> None:
    refused = replace(compared("ptq4dm", "a", REFUSED), difference=None, low=None, high=None, reason="unequal bits")
    made = record(refused, methods=("qdiffusion", "ptq4dm"))
    made.cells += [failed("gacq", "W4A8", s, "no data") for s in (0, 1)]
    text = said(made)["W4A8"]
    assert "Not comparable: ptq4dm (unequal bits)." in text and "Failed: gacq." in text


def test_a_baseline_that_failed_or_is_not_there() -> None:
    broken = run(failed("qdiffusion", "W4A8", 0, "no data"), cell("gacq", "W4A8", 0, FIGURES))
    assert said(broken)["W4A8"] == "Nothing can be compared: the baseline qdiffusion failed at these bits."
    other = run(cell("qdiffusion", "W4A32", 0, FIGURES), cell("gacq", "W4A8", 0, FIGURES))
    assert said(other) == {"": said(other)[""], "W4A8": said(other)["W4A8"]}
    assert "has no row at these bits" in said(other)["W4A8"]
    assert list(said(replace(one_seed(), baseline="full-precision"))) == [""]


def test_a_line_for_each_bit_setting_and_one_for_the_conditions() -> None:
    made = attach_comparisons(sampled_run({"qdiffusion": 5.0, "gacq": 4.0}, bits=("W4A32", "W4A8")))
    found = said(made)
    assert list(found) == ["", "W4A32", "W4A8"]
    assert found["W4A32"].startswith("Better than qdiffusion: gacq (fd-digits@data")
    for words in ("20 steps, uniform grid, eta 0", "512 images", "calibration seeds 0, 1", "simulated"):
        assert words in found[""]
    assert "solver" not in found[""]
    made.protocol["solver"] = "dpm-solver-2m"
    assert "solver dpm-solver-2m, 20 steps" in said(made)[""]
    assert "one calibration seed (0): verdicts are about this calibration only" in said(one_seed())[""]


@pytest.mark.parametrize(
    ("changed", "words", "seen"),
    [
        ({"difference": -4.1, "low": -5.3, "high": -2.9}, f"{MINUS}41 {PM} 12 %", "20 %"),
        ({"difference": 4.2, "low": 1.6, "high": 6.8, "better": "higher"}, f"+4.2 {PM} 2.6", "2.0"),
        ({"difference": 160.0, "low": 150.0, "high": 170.0}, "17 times as high", "20 %"),
        ({"baseline_value": 0.0}, f"{MINUS}1.00 {PM} 0.50", "2.0"),
        ({"value": -0.5, "baseline_value": 0.5}, f"{MINUS}1.00 {PM} 0.50", "2.0"),
        ({"baseline_value": -3.0, "detectable": None}, f"{MINUS}1.00 {PM} 0.50", ""),
    ],
)
def test_amounts_need_no_table(changed: dict[str, object], words: str, seen: str) -> None:
    found = compared("gacq", "a", UNSEEN, **changed)  # type: ignore[arg-type]
    assert (amount(found), would_have_been_seen(found)) == (words, seen)


def test_long_lists_are_counted() -> None:
    methods = ("qdiffusion", *(f"m{i}" for i in range(12)))
    found = [compared(m, "a", UNSEEN, detectable=1.0 + i) for i, m in enumerate(methods[1:])]
    text = said(record(*found, methods=methods))["W4A8"]
    assert "m5 and 6 others (a difference of 10 to 120 % in a would have been seen)" in text


def test_what_would_have_been_seen_is_ordered_in_the_unit_that_it_is_told_in() -> None:
    finer = compared("ptq4dm", "a", UNSEEN, baseline_value=2.0, detectable=1.0)
    text = said(record(compared("gacq", "a", UNSEEN), finer))["W4A8"]
    assert "(a difference of 20 to 50 % in a would have been seen)" in text
    # One in percent and one in the metric's unit have no order.
    assert "would have been seen" not in said(record(compared("gacq", "a", UNSEEN), replace(finer, baseline_value=0.0)))["W4A8"]


def test_rows_whose_row_of_the_baseline_failed_are_told() -> None:
    made = record(compared("gacq", "a", UNSEEN, variant="rate=1"), methods=())
    for rate in (1, 2):
        made.cells += [cell(method, "W4A8", 0, FIGURES, f"rate={rate}") for method in ("qdiffusion", "gacq", "ptq4dm")]
    assert "No row of" not in said(made)["W4A8"]
    broken = [replace(c, status="failed") if (c.method, c.variant) == ("qdiffusion", "rate=2") else c for c in made.cells]
    assert "No row of qdiffusion to compare with: gacq rate=2, ptq4dm rate=2." in said(replace(made, cells=broken))["W4A8"]
