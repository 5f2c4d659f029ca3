"""Fits in a record: which rows count as unfinished, how that is told, and the tables of units."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from comparison_samples import one_seed

from ptqbench.api.result import Run
from ptqbench.cli import cli
from ptqbench.errors import EXIT_USAGE
from ptqbench.results.fit_tables import fit_tables, fitted_rows
from ptqbench.results.fits import FitQuality, StageLosses, Weighting, finish, gain
from ptqbench.results.overview import overview
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.results.rows import rows_of
from ptqbench.results.tables import Table, comparison


def fit(unit: str, *losses: float | None, variables: int = 100, undecided: float | None = 0.0) -> FitQuality:
    return FitQuality("rounding", unit, 480, StageLosses(*losses), variables=variables, undecided=undecided)


def marked(*fits: FitQuality) -> RunRecord:
    """The run whose gacq cells at W4A32 have these fits."""
    run = one_seed()
    for cell in run.cells:
        if (cell.method, cell.bits) == ("gacq", "W4A32"):
            cell.fits = list(fits)
    return run


def named(table: Table, text: str) -> list[str]:
    return [row[0].text for row in table.rows if row[0].text.startswith(text)]


LEARNED = Weighting(0.62, 4.0, 4, {"validation": [0.5, 0.4, 0.3], "validation_slope": [2.0] * 3, "matching_slope": [1.0] * 3})
DONE = dataclasses.replace(fit("mid", 1.3, 0.32, 0.33, undecided=0.002), held_out=StageLosses(1.4, 0.4, 0.42), weighter=LEARNED)


def test_undecided_count_by_variables_and_hardening_by_what_is_at_stake() -> None:
    found = finish([fit("a", 100.0, 10.0, 20.0, variables=900, undecided=0.1), fit("b", 1.0, 0.3, 0.3)])
    assert found is not None
    assert found.undecided == pytest.approx(0.09)
    # 0.1 and 0.3 of the loss before become 0.2 and 0.3.
    assert found.hardening == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("losses", "undecided", "finished"),
    [
        ((1.0, 0.4, 0.419), 0.009, True),
        ((1.0, 0.4, 0.419), 0.011, False),
        ((1.0, 0.4, 0.421), 0.009, False),
        ((1.0, 0.4, 0.35), 0.0, True),
        ((None, 0.4, 0.8), 0.0, True),
    ],
)
def test_a_fit_is_unfinished_over_one_percent_undecided_or_five_percent_of_the_loss(losses, undecided, finished) -> None:
    found = finish([fit("a", *losses, undecided=undecided)])
    assert found is not None and found.finished == finished


def test_where_no_rounding_is_learned_nothing_is_to_finish() -> None:
    steps = fit("a", 1.0, 0.9, 2.0, variables=0, undecided=None)
    assert finish([steps]) is None
    assert gain([steps]) == pytest.approx(2.0)
    assert finish([]) is gain([]) is None


def test_an_unfinished_row_is_marked_and_told_in_one_sentence() -> None:
    run = marked(fit("mid", 1.3, 0.405, 0.507, undecided=0.214))
    for table in (overview(run), comparison(run)):
        assert named(table, "gacq").count("gacq †") == 1
        assert sum("†" in note for note in table.notes) == 1
    (said,) = (note for note in overview(run).notes if "†" in note)
    assert "gacq W4A32 (21 % of roundings undecided, hardening costs 25 %)" in said
    # Programs get the method's name.
    assert {row[0].plain for row in comparison(run).rows if row[0].text.startswith("gacq")} == {"gacq"}


def test_finished_fits_and_rows_without_any_are_not_marked() -> None:
    for run in (marked(DONE), one_seed()):
        assert not any("†" in text for text in (*overview(run).notes, *named(overview(run), "")))


def test_the_furthest_rows_are_named_and_the_others_counted() -> None:
    run = one_seed()
    shares = iter((0.02, 0.3, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09))
    for cell in run.cells[1:]:
        if cell.status == "ok":
            cell.fits = [fit("mid", 1.0, 0.4, 0.4, undecided=next(shares))]
    many = sum(row.unfinished is not None for row in rows_of(run))
    assert many > 3
    (said,) = (note for note in overview(run).notes if "†" in note)
    assert "30 %" in said and f"and {many - 3} others" in said


def test_fits_survive_being_written_and_read() -> None:
    run = marked(DONE, fit("conv", None, 0.1, 0.2, undecided=None, variables=0))
    assert RunRecord.from_json(run.to_json()) == run
    cell = next(cell for cell in run.cells if cell.fits)
    assert CellRecord.from_dict(json.loads(json.dumps(dataclasses.asdict(cell)))) == cell


def test_the_summary_has_a_line_for_each_row_and_phase() -> None:
    run = marked(DONE, dataclasses.replace(fit("mid", 0.2, 0.19, 0.19, variables=0, undecided=None), phase="steps"))
    rows = fit_tables(fitted_rows(run))[0].rows
    assert [[cell.text for cell in row[2:]] for row in rows] == [
        ["rounding", "1", "0.2", "3.1", "0.254", "0.300", "finished"],
        ["steps", "1", "\N{EN DASH}", "\N{EN DASH}", "0.950", "\N{EN DASH}", "none learned"],
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "110")
    (tmp_path / "results.json").write_text(marked(DONE, fit("conv", 2.0, 1.0, 1.02)).to_json(), encoding="utf-8")
    return tmp_path


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_the_study_lists_every_unit_of_a_row(folder: Path) -> None:
    text = call("study", "fits", folder).stdout
    assert "gacq W4A32: units, phase rounding (480 iterations)" in text
    (mid,) = (line.split() for line in text.splitlines() if line.split()[:2] == ["mid", "1.300"])
    assert mid == ["mid", "1.300", "0.3200", "0.3300", "1.400", "0.4200", "0.2"]
    (learned,) = (line.split() for line in text.splitlines() if line.split()[:2] == ["mid", "4"])
    assert learned[:5] == ["mid", "4", "4.00", "62.0", "0.5000"]
    data = json.loads(call("study", "fits", folder, "--json").stdout)
    assert [fit["unit"] for fit in data["gacq/W4A32/seed0"]] == ["mid", "conv"]


def test_a_cell_is_shown_with_its_fits(folder: Path) -> None:
    text = call("show", folder, "--cell", "gacq/W4A32/seed0").stdout
    assert "fits by unit, phase rounding (480 iterations)" in text
    assert "learned weights by unit, phase rounding" in text
    assert "fits by unit" not in call("show", folder, "--cell", "qdiffusion/W4A32/seed0").stdout


def test_units_are_a_table_in_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = Run.load(folder).fits("gacq/W4A32/seed0")
    assert [(row["cell"], row["unit"]) for row in rows] == [("gacq/W4A32/seed0", "mid"), ("gacq/W4A32/seed0", "conv")]
    assert [rows[0][key] for key in ("before", "hard", "held_out_hard", "undecided", "effective")] == [
        1.3,
        0.33,
        0.42,
        0.002,
        0.62,
    ]
    assert rows[1]["held_out_hard"] is rows[1]["effective"] is None
    assert len(Run.load(folder).fits()) == 2


def test_a_row_that_has_no_fits_is_refused_with_those_that_have(folder: Path, tmp_path: Path) -> None:
    refused = call("study", "fits", folder, "--row", "nearest")
    assert refused.exit_code == EXIT_USAGE and "gacq" in refused.stderr
    (folder / "results.json").write_text(one_seed().to_json(), encoding="utf-8")
    assert call("study", "fits", folder).exit_code == EXIT_USAGE
