"""The table of differences, and numbers that the main table refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from comparison_samples import two_seeds
from paired_samples import LEFT_OUT, sampled_run

from ptqbench.results import console, formatting
from ptqbench.results.compare import UNSEEN, attach_comparisons
from ptqbench.results.difference_table import UNCORRECTED, difference_cell, difference_notes, sensitivity
from ptqbench.results.tables import NOTHING, comparison

METHODS = {"qdiffusion": 5.0, "gacq": 4.5, "ptq4dm": 5.01, "minmax": 8.0}


def test_what_would_have_been_seen_and_the_notes() -> None:
    record = sampled_run(METHODS)
    own = record.cells[0].metrics
    own["fd-digits@data"] = replace(own["fd-digits@data"], replicates=LEFT_OUT)
    record = attach_comparisons(record)
    (table,) = sensitivity(record)
    found = {row[0].text: row[2].value for row in table.rows}
    assert found["gacq"] == next(c.detectable for c in record.comparisons if c.method == "gacq" and c.better == "lower")
    assert found["noise floor"] == pytest.approx(0.01 * (2 * 19) ** 0.5)
    notes = " ".join(table.notes)
    for words in ("(3 comparisons)", "chance of 80 %", "noise floor", "pooled"):
        assert words in notes
    assert "One calibration seed" not in notes


def test_a_difference_has_its_verdict_in_a_word() -> None:
    found = {c.method: difference_cell(c) for c in attach_comparisons(sampled_run(METHODS)).comparisons if c.better == "lower"}
    assert found["gacq"].text.startswith("\N{MINUS SIGN}0.") and found["gacq"].text.endswith(" better")
    assert found["ptq4dm"].text.endswith(" unclear")
    assert found["minmax"].text.startswith("+") and found["minmax"].text.endswith(" worse")
    assert [found[name].tone for name in ("gacq", "ptq4dm", "minmax")] == ["good", "", "bad"]


def test_one_seed_is_named_in_the_notes() -> None:
    notes = " ".join(difference_notes(attach_comparisons(sampled_run(METHODS, seeds=1)).comparisons))
    assert "One calibration seed: verdicts are about these very calibrations" in notes
    assert "pooled" not in notes


def test_refused_pairs_say_why() -> None:
    record = sampled_run(METHODS)
    for cell in record.cells[-2:]:
        cell.bits_summary["average activation bits"] = 16.0
    (refused, _) = [c for c in attach_comparisons(record).comparisons if c.method == "minmax"]
    assert difference_cell(refused).text == "not comparable"
    assert "fd-digits@data unequal bits" in difference_cell(refused).note


def test_a_run_without_comparisons_has_no_such_table() -> None:
    assert sensitivity(two_seeds()) == []


def test_an_interval_that_excludes_zero_beside_unclear_is_explained() -> None:
    record = attach_comparisons(sampled_run(METHODS))
    assert UNCORRECTED not in difference_notes(record.comparisons)
    record.comparisons[0] = replace(record.comparisons[0], verdict=UNSEEN, difference=1.0, low=0.5, high=1.5)
    assert UNCORRECTED in difference_notes(record.comparisons)


def test_another_protocol_is_a_dash_with_the_reason() -> None:
    record = sampled_run(METHODS)
    record.cells[0].metrics["fd-digits@data"].protocol = ""
    for cell in record.cells:
        if cell.method == "minmax":
            cell.metrics["fd-digits@data"].protocol = "ffff"
    table = comparison(record)
    row = next(row for row in table.rows if row[0].plain == "minmax")
    assert (row[2].text, row[2].value) == (NOTHING, None)
    assert "fd-digits@data measured under another protocol (ffff against aaaa1111)" in row[2].note
    assert row[3].value is not None
    assert "no protocol id" in table.rows[0][2].note
    assert any("minmax" in note for note in table.footnotes)


def test_the_baseline_decides_which_protocol_stays() -> None:
    record = sampled_run(METHODS)
    for cell in record.cells:
        if cell.method == "qdiffusion":
            cell.metrics["fd-digits@data"].protocol = "ffff"
    shown = {row[0].plain: row[2].value is not None for row in comparison(record).rows}
    assert shown == {"full-precision": False, "qdiffusion": True, "gacq": False, "ptq4dm": False, "minmax": False}


def test_a_column_that_is_refused_altogether_still_says_why() -> None:
    record = sampled_run({"qdiffusion": 5.0})
    record.cells[0].metrics["fd-digits@data"].protocol = ""
    record.cells[1].metrics["fd-digits@data"].protocol = "ffff"
    table = comparison(record)
    column = [c.key for c in table.columns].index("fd-digits@data")
    assert "several protocols" in table.rows[1][column].note
    assert table.rows[0][column].note
    assert console.render([table], 80)


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ((0.3123, 0.23, 0.3946), "+0.312 \N{PLUS-MINUS SIGN} 0.082"),
        ((-4.0, -6.0, -2.0), "\N{MINUS SIGN}4.0 \N{PLUS-MINUS SIGN} 2.0"),
        ((0.0, 0.0, 0.0), "0"),
        ((-0.5, -0.5, -0.5), "\N{MINUS SIGN}0.5000"),
    ],
)
def test_format(figures: tuple[float, float, float], text: str) -> None:
    assert formatting.difference(*figures) == text
