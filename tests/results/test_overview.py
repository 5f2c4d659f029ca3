"""The main table: value beside difference, a word for what is missing, and few notes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from comparison_samples import cell, failed, one_seed, run, two_seeds
from paired_samples import compared, sampled_run

from ptqbench.results import console
from ptqbench.results.captions import MOST_NOTES
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.overview import overview
from ptqbench.results.tables import NOTHING, Cell, Table

METHODS = {"qdiffusion": 5.0, "gacq": 4.5, "ptq4dm": 5.01, "minmax": 8.0}
FIGURES = (0.002, 24.0, 4.0, 0.6, 0.003)


def entry(table: Table, method: str, key: str, bits: str = "W4A8") -> Cell:
    column = [c.key for c in table.columns].index(key)
    (found,) = [r for r in table.rows if r[0].text == method and r[1].text in (bits, "W32A32")]
    return found[column]


def test_value_and_difference_stand_side_by_side() -> None:
    table = overview(attach_comparisons(sampled_run(METHODS)))
    keys = [c.key for c in table.columns]
    for metric in ("fd-digits@data", "psnr@fp"):
        assert keys[keys.index(metric) + 1] == f"{metric} difference"
        assert table.columns[keys.index(metric) + 1].joined
    key = "psnr@fp difference"
    assert entry(table, "qdiffusion", key).text == "baseline"
    assert entry(table, "full-precision", key).text == NOTHING
    words = {name: entry(table, name, key).text.rpartition(" ")[2] for name in list(METHODS)[1:]}
    assert words == {"gacq": "better", "ptq4dm": "unclear", "minmax": "worse"}


def test_the_interval_is_over_images_and_seeds_together() -> None:
    record = sampled_run(METHODS, calibration=3.0)
    found = entry(overview(record), "gacq", "psnr@fp")
    numbers = [c.metrics["psnr@fp"] for c in record.cells if c.method == "gacq"]
    images = sum(x.high - x.low for x in numbers) / len(numbers)
    assert found.high is not None and found.low is not None and found.high - found.low > images
    assert "and calibration seeds together" in " ".join(overview(record).notes)
    alone = entry(overview(one_seed()), "gacq", "psnr@fp", "W4A32")
    assert (alone.low, alone.high) == (24.9 - 0.31, 24.9 + 0.31)


def test_a_word_says_what_is_missing() -> None:
    table = overview(compared())
    assert entry(table, "minmax", "psnr@fp").text == "other protocol"
    assert entry(table, "minmax", "psnr@fp difference").text == "not comparable"
    assert entry(overview(one_seed()), "gacq", "eps-error").text == "failed"
    assert [note for note in table.notes if "another protocol" in note and "minmax W4A8" in note]


@pytest.mark.parametrize("made", [one_seed, two_seeds, compared])
def test_at_most_two_notations_in_a_cell_and_six_notes(made: object) -> None:
    table = overview(made())  # type: ignore[operator]
    assert len(table.notes) <= MOST_NOTES
    marks = ("\N{PLUS-MINUS SIGN}", "[", "(", "/", "\N{DAGGER}", "\N{ALMOST EQUAL TO}")
    assert max(sum(mark in c.text for mark in marks) for row in table.rows for c in row) <= 2


def test_the_same_failure_of_five_seeds_is_one_note() -> None:
    cells = [failed(name, "W4A8", s, "step group 5 of 5 is empty\n  use fewer") for name in ("gacq", "late") for s in range(5)]
    notes = overview(run(cell("qdiffusion", "W4A8", 0, FIGURES), *cells)).notes
    (note,) = [note for note in notes if "step group" in note]
    assert note == "failed: gacq W4A8 (seeds 0 to 4), late W4A8 (seeds 0 to 4): step group 5 of 5 is empty; use fewer"
    assert "random W4A8 (seed 1 of 2, the others count): out of memory" in overview(two_seeds()).notes[0]


def test_many_failures_are_counted() -> None:
    cells = [failed(f"m{i}", "W4A8", 0, f"reason {i}") for i in range(9)]
    notes = overview(run(cell("qdiffusion", "W4A8", 0, FIGURES), *cells)).notes
    assert len(notes) == MOST_NOTES
    assert any("more notes of this kind: `ptqbench show RUN --all`" in note for note in notes)


def test_unequal_budgets_are_said_at_the_table() -> None:
    record = one_seed()
    assert "Calibration samples (training + validation) are equal, 512 per row" in " ".join(overview(record).notes)
    record.cells[1].budget = replace(record.cells[1].budget, training=1024)
    assert "samples (training + validation) are NOT equal, 512 to 1024 per row" in " ".join(overview(record).notes)


@pytest.mark.parametrize("width", [72, 80, 100, 140])
def test_a_terminal_prints_bits_once_and_never_parts_a_difference_from_its_value(width: int) -> None:
    text = console.render([overview(attach_comparisons(sampled_run(METHODS, bits=("W4A32", "W4A8"))))], width)
    assert max(map(len, text.splitlines())) <= width
    lines = [line.strip() for line in text.splitlines()]
    panels = text.count("continued") + 1
    assert lines.count("W4A8") == lines.count("W4A32") == panels
    for heading in (line for line in lines if line.startswith("method")):
        # The first column of numbers in every panel is a value.
        assert not heading.removeprefix("method").lstrip().startswith("vs qdiffusion")


def test_rows_of_one_setting_that_stand_apart_keep_their_column() -> None:
    record = attach_comparisons(sampled_run(METHODS, bits=("W4A32", "W4A8")))
    assert overview(record).grouped
    assert "bits" not in console.render([overview(record)], 100)
    assert " bits " in console.render([replace(overview(record), grouped=False)], 100)
