"""`ptqbench cache` and `ptqbench runs`: what is kept, and what came out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from comparison_samples import failed, run, two_seeds

from ptqbench.cli import cli
from ptqbench.stage.cache import Cache, Costs, cached_tensors


def told(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for recipe, stage, key in (("one", "images", "a"), ("one", "trajectories", "b"), ("two", "trajectories", "b")):
        cached_tensors(Cache(tmp_path, recipe), Costs(), stage, key, lambda _: {"x": torch.zeros(3000)})
    return tmp_path


def test_the_cache_by_stage_and_by_recipe(cache: Path) -> None:
    lines = [line.split() for line in told("cache", "--cache", str(cache)).splitlines()]
    assert ["images", "1", "12", "KiB", "today"] in lines
    assert ["one", "2", "24", "KiB", "12", "KiB", "today"] in lines
    assert ["two", "1", "12", "KiB", "0", "B", "today"] in lines
    assert {entry["stage"] for entry in json.loads(told("cache", "--cache", str(cache), "--json"))} == {
        "images",
        "trajectories",
    }


def test_pruning_says_what_went_and_what_stays(cache: Path) -> None:
    assert "deleted 1 of 2 results, 12 KiB; 12 KiB stay" in told("cache", "--cache", str(cache), "--prune", "--recipe", "one")
    assert not (cache / "images/a").exists() and (cache / "trajectories/b").is_dir()
    assert "deleted 0 of 1" in told("cache", "--cache", str(cache), "--prune", "--days", "1")
    assert "deleted 1 of 1" in told("cache", "--cache", str(cache), "--prune", "--room", "1k")


def test_a_recipe_that_has_nothing_alone_is_told_with_those_that_there_are(cache: Path) -> None:
    found = told("cache", "--cache", str(cache), "--prune", "--recipe", "on")
    assert 'nothing is of the recipe "on" alone; did you mean "one"? recipes: one, two' in found
    assert "deleted 0 of 2" in found


def test_pruning_as_json(cache: Path) -> None:
    found = json.loads(told("cache", "--cache", str(cache), "--prune", "--recipe", "one", "--json"))
    folders = {name: [entry["folder"] for entry in entries] for name, entries in found.items()}
    assert folders == {"deleted": [str(cache / "images/a")], "in_use": [], "stay": [str(cache / "trajectories/b")]}


@pytest.mark.parametrize("words", [["--prune"], ["--days", "3"], ["--prune", "--room", "much"], ["--prune", "--days", "-1"]])
def test_nothing_is_deleted_on_a_half_said_wish(cache: Path, words: list[str]) -> None:
    result = CliRunner().invoke(cli, ["cache", "--cache", str(cache), *words])
    assert result.exit_code == 2
    assert (cache / "images/a").is_dir()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    early, late = two_seeds(), run(failed("gacq", "W4A8", 0, "the model is gone\nlook for it"), published=False)
    for name, record, day in (("early", early, "2026-01-02"), ("late", late, "2026-03-04")):
        record.created = f"{day}T12:00:00+00:00"
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(record.to_json())
    return tmp_path


def test_runs_stand_with_their_verdicts_the_latest_first(runs: Path) -> None:
    text = told("runs", str(runs))
    assert text.index("2026-03-04") < text.index("the model is gone") < text.index("2026-01-02")
    assert "look for it" not in text.partition("2026-01-02")[0] and "2 cells, 1 failed" in text
    entries = json.loads(told("runs", str(runs), "--json"))
    assert [Path(entry["folder"]).name for entry in entries] == ["late", "early"]
    assert entries[0]["failed"] == ["gacq/W4A8/seed0"]
    assert set(entries[1]["verdicts"]) == {"W4A8"}


def test_runs_of_one_recipe_and_records_that_cannot_be_read(runs: Path) -> None:
    assert told("runs", str(runs), "--recipe", "another") == f"no runs in {runs} of another\n"
    (runs / "early/results.json").write_text("{")
    result = CliRunner().invoke(cli, ["runs", str(runs)])
    assert result.exit_code == 0 and "2026-03-04" in result.output
    assert "left out" in result.stderr and "early" in result.stderr
    assert CliRunner().invoke(cli, ["runs", str(runs / "none")]).exit_code == 2
