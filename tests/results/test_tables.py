"""What the neutral tables say."""

from __future__ import annotations

import dataclasses

import pytest
from comparison_samples import cell, failed, one_seed, run, two_seeds

from ptqbench.results import formatting
from ptqbench.results.record import Budget, Number, RunRecord
from ptqbench.results.rows import Row, metric_names, rows_of
from ptqbench.results.tables import NOTHING, Cell, Table, comparison, published


def entry(table: Table, row: tuple[str, str], key: str) -> Cell:
    """The cell of a row (method, bits) in a column."""
    column = [c.key for c in table.columns].index(key)
    (found,) = [r for r in table.rows if (r[0].plain, r[1].text) == row]
    return found[column]


def test_order_of_rows_and_columns() -> None:
    table = comparison(one_seed())
    assert [(r[0].text, r[1].text) for r in table.rows] == [
        ("full-precision", "W32A32"),
        ("nearest", "W4A32"),
        ("qdiffusion *", "W4A32"),
        ("gacq", "W4A32"),
        ("nearest", "W4A8"),
        ("qdiffusion *", "W4A8"),
        ("gacq", "W4A8"),
    ]
    assert [c.key for c in table.columns[2:7]] == [
        "eps-error",
        "psnr@fp",
        "fd-digits@data",
        "fd-digits@fp",
        "kid-digits@data",
    ]
    assert [c.heading[-1] for c in table.columns[2:5]] == ["↓", "↑", "↓"]


def test_variants_are_rows_of_their_own() -> None:
    figures = (0.002, 24.0, 4.0, 0.6, 0.003)
    table = comparison(run(cell("gacq", "W4A8", 0, figures, "groups=5"), cell("gacq", "W4A8", 0, figures, "groups=9")))
    assert [r[0].text for r in table.rows[1:]] == ["gacq groups=5", "gacq groups=9"]


def test_failed_cells_are_rows_with_a_reason() -> None:
    table = comparison(one_seed())
    row = ("gacq", "W4A8")
    assert entry(table, row, "eps-error").text == "failed"
    assert entry(table, row, "seeds").text == "0 of 1"
    reason = "seed 0: noise predictions are not finite at 3 of 20 timesteps; look at the ranges"
    assert entry(table, row, "status").note == reason
    assert len(table.footnotes) == 1


def test_a_reason_is_told_without_the_colours_of_the_library_that_gave_it() -> None:
    record = one_seed()
    record.cells[-1].reason = "\x1b[1;31mout of\tmemory\x1b[0m\x00\n\n  a smaller batch"
    assert entry(comparison(record), ("gacq", "W4A8"), "status").note == "seed 0: out of memory; a smaller batch"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(7.4458e-9, 2, "7.4e-09"), (-2.5264e-6, 2, "-2.5e-06"), (12345678.0, 4, "1.235e+07"), (0.012345, 3, "0.0123")],
)
def test_a_number_keeps_its_digits_beside_an_exponent(value: float, digits: int, text: str) -> None:
    assert formatting.significant(value, digits) == text


def test_seeds_are_averaged_and_their_spread_is_apart() -> None:
    table = comparison(two_seeds())
    number = entry(table, ("gacq", "W4A8"), "fd-digits@data")
    assert (number.value, number.low, number.high) == pytest.approx((5.0, 4.58, 5.42))
    assert number.spread == pytest.approx(0.1414, abs=1e-4)
    assert number.text == "5.00 ± 0.42 / 0.14"
    partial = ("random", "W4A8")
    assert entry(table, partial, "fd-digits@data").text == "7.02 ± 0.42"
    assert entry(table, partial, "seeds").text == "1 of 2"
    assert entry(table, partial, "status").note == "seed 1: out of memory"


def test_counts_stand_in_the_heading_or_with_the_number() -> None:
    equal = comparison(one_seed())
    assert {c.key: c.remark for c in equal.columns}["fd-digits@fp"] == "n=512"
    record = one_seed()
    record.cells[0].metrics["fd-digits@data"].n = 100
    table = comparison(record)
    assert {c.key: c.remark for c in table.columns}["fd-digits@data"] == ""
    assert entry(table, ("full-precision", "W32A32"), "fd-digits@data").text == "3.21 ± 0.38 (n=100)"


def test_small_numbers_are_rescaled_in_print_only() -> None:
    table = comparison(one_seed())
    column = next(c for c in table.columns if c.key == "kid-digits@data")
    number = entry(table, ("gacq", "W4A32"), column.key)
    assert (column.exponent, column.remark) == (-3, "in 1e-3, n=512")
    assert (number.text, number.value) == ("2.80 ± 0.40", 0.0028)


def test_equal_and_unequal_budgets() -> None:
    notes = " ".join(comparison(one_seed()).notes)
    assert "equal, 512 samples per row" in notes
    record = one_seed()
    record.cells[1].budget.training = 1024
    notes = " ".join(comparison(record).notes)
    assert "NOT equal" in notes
    assert "1024: nearest W4A32; 512: " in notes


def counted() -> RunRecord:
    """The sample run with evaluations counted by stage."""
    record = one_seed()
    for done in record.cells[1:]:
        done.budget = Budget(512, 0, 0, 512, by_stage={"trajectories": 512})
    return record


def test_equal_and_unequal_evaluations() -> None:
    record = counted()
    assert "Denoiser evaluations for calibration: equal, 512 per row." in " ".join(comparison(record).notes)
    record.cells[3].budget = Budget(512, 0, 0, 4000, by_stage={"trajectories": 512, "reconstruct-rounding": 3488})
    notes = " ".join(comparison(record).notes)
    assert "equal, 512 samples per row" in notes
    assert "Denoiser evaluations for calibration (samples times passes) are NOT equal: 4000: qdiffusion W4A32; 512: " in notes


def test_trajectories_for_a_hook_are_calibration_data_too() -> None:
    record = counted()
    record.cells[1].budget = Budget(denoiser_evaluations=640, by_stage={"trajectories": 320, "hook-ptqd": 320})
    notes = " ".join(comparison(record).notes)
    assert "Needs no calibration data" not in notes
    assert "0: nearest W4A32" in notes
    assert "640: nearest W4A32; 512: " in notes


def test_captions_say_what_was_held_equal() -> None:
    notes = " ".join(comparison(two_seeds()).notes)
    for words in (
        "simulated",
        "512 images per row",
        "20 sampling steps, uniform grid, eta 0",
        "image seed 1234",
        "same noise",
    ):
        assert words in notes
    assert "Calibration seeds 0, 1" in notes
    record = one_seed()
    record.protocol = {}
    assert any(note.startswith("image i starts") for note in comparison(record).notes)


def test_captions_say_what_intervals_are_over() -> None:
    record = one_seed()
    assert "over images (eps-error: over trajectories)" in " ".join(comparison(record).notes)
    record.cells[1].metrics["extra"] = Number(1.0, 0.0, 1.1, 5, protocol="p", unit="splits")
    said = " ".join(comparison(record).notes)
    assert "(eps-error: over trajectories; extra: over splits)" in said
    assert "[a, b] the interval itself where it is not symmetric" in said


def test_published_figures_are_apart_and_as_printed() -> None:
    (table,) = published(one_seed())
    assert "not comparable with the table above" in table.title
    assert [[c.text for c in row] for row in table.rows] == [
        ["Q-Diffusion", "W4A8", "4.98", NOTHING],
        ["GACQ", "W4A8", "4.30", "9"],
    ]
    assert published(two_seeds()) == []


def test_a_run_in_which_everything_failed() -> None:
    table = comparison(run(failed("gacq", "W4A8", 0, ""), published=False))
    assert entry(table, ("gacq", "W4A8"), "status").note == "seed 0: no reason recorded"
    assert comparison(dataclasses.replace(one_seed(), cells=[])).rows == []
    assert metric_names([Row("a", "W4A8", "", (), (), {})]) == []


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ((1.23456, 1.17856, 1.29056), "1.235 ± 0.056"),
        ((123.4, 100.4, 146.4), "123 ± 23"),
        ((0.4, 0.0, 1.9), "0.40 [0.00, 1.90]"),
        ((-0.00012, -0.00052, 0.00028), "\N{MINUS SIGN}0.00012 ± 0.00040"),
        ((54.15, 54.15, 54.15), "54.15"),
        ((0.0, 0.0, 0.0), "0"),
        ((float("nan"), float("nan"), float("nan")), "nan"),
        ((2.71e-6, 2.56e-6, 2.86e-6), "(2.71 ± 0.15)e-6"),
        ((4e-8, 0.0, 1.9e-7), "(40 [0, 190])e-9"),
        ((1e-17, 0.9e-17, 1.1e-17), "(10.0 ± 1.0)e-18"),
    ],
)
def test_digits_follow_the_interval(figures: tuple[float, float, float], text: str) -> None:
    assert formatting.measured(*figures) == text


def test_small_differences_are_told_from_nothing() -> None:
    """Two runs side by side, and a check, show differences of a latent-error in the unit of the record."""
    assert formatting.difference(3.2e-7, 2.4e-7, 4.0e-7) == "(+320 ± 80)e-9"
    assert formatting.difference(-1.6e-6, -1.75e-6, -1.45e-6) == "(\N{MINUS SIGN}1.60 ± 0.15)e-6"
    assert formatting.difference(0.5, 0.5 - 1e-9, 0.5 + 1e-9) == "+0.500000 ± 0.000000"


def test_metrics_that_only_some_rows_have_keep_their_place() -> None:
    record = one_seed()
    record.cells[-2].metrics["extra"] = Number(1.0, 0.9, 1.1, 512)
    assert metric_names(rows_of(record)) == [*metric_names(rows_of(one_seed())), "extra"]


def test_a_method_without_calibration_data_does_not_make_the_others_unequal() -> None:
    record = one_seed()
    record.cells[1].budget = Budget()
    notes = " ".join(comparison(record).notes)
    assert "NOT equal" not in notes
    assert f"Needs no calibration data: {record.cells[1].method}" in notes
