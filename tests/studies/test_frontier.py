"""The frontier of fits: which rows no other row beats in error and time, read from a record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from comparison_samples import cell, run

from ptqbench.cli import cli
from ptqbench.results.record import RunRecord, StageCost
from ptqbench.studies.frontier import frontier

FITS = {"short": (10, (4.0, 6.0)), "long": (40, (2.0, 2.2)), "slow": (60, (3.0, 3.0)), "quick": (5, (9.0, 9.0))}
"""Seconds, and the errors of two seeds: all but `slow`, which `long` beats in both, are worth their time."""


def record() -> RunRecord:
    cells = []
    for name, (seconds, errors) in FITS.items():
        for seed, error in enumerate(errors):
            made = cell(name, "W4A32", seed, (error, 30.0, 5.0, 1.0, 0.01))
            made.cost = {"reconstruct-rounding": StageCost(seconds, 1.0), "images": StageCost(99.0, 1.0)}
            cells.append(made)
    nearest = cell("nearest", "W4A32", 0, (50.0, 20.0, 5.0, 1.0, 0.01))
    return run(*cells, nearest)


def test_rows_that_fit_something_lie_on_the_frontier_unless_another_beats_them():
    found = {p.method: p for p in frontier(record(), "eps-error")}
    assert list(found) == ["quick", "short", "long", "slow"]
    assert [p.best for p in found.values()] == [True, True, True, False]
    assert found["short"].value == pytest.approx(5.0)
    assert found["short"].seconds == 10
    assert found["short"].spread == pytest.approx(2**0.5 / 5.0)
    assert found["slow"].spread == 0


def test_a_variant_is_named_without_its_bits():
    made = record()
    for found in made.cells:
        found.variant = "" if found.method == "full-precision" else "rate=1"
    assert {(p.method, p.bits) for p in frontier(made, "eps-error")} == {(f"{name} rate=1", "W4A32") for name in FITS}


def test_the_command_prints_and_draws_it(tmp_path: Path):
    path = tmp_path / "results.json"
    path.write_text(record().to_json(), encoding="utf-8")
    picture = tmp_path / "frontier.png"
    done = CliRunner().invoke(cli, ["study", "frontier", str(path), "--metric", "eps-error", "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    assert "long *" in done.stdout and "slow *" not in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    points = json.loads(CliRunner().invoke(cli, ["study", "frontier", str(path), "--metric", "eps-error", "--json"]).stdout)
    assert [p["method"] for p in points["points"]] == ["quick", "short", "long", "slow"]


@pytest.mark.parametrize("metric", ["psnr@fp", "no-such"])
def test_a_metric_that_is_no_error_is_refused(tmp_path: Path, metric: str):
    path = tmp_path / "results.json"
    path.write_text(record().to_json(), encoding="utf-8")
    done = CliRunner().invoke(cli, ["study", "frontier", str(path), "--metric", metric])
    assert done.exit_code == 2
    assert metric in done.stderr
