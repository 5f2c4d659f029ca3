"""`ptqbench check` as a command: options, exit codes, files that it writes. No tensors."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from gate_samples import scaled, steady
from paired_samples import sampled_run

from ptqbench.cli import cli
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.record import RunRecord


def write(folder: Path, record: RunRecord) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(record.to_json(), encoding="utf-8")
    return str(folder)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    write(tmp_path / "run", steady())
    write(tmp_path / "worse", scaled(steady(), "fitted", "fd@data", 1.3))
    return tmp_path


def check(run: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["check", run, *arguments])


def test_a_missing_baseline_is_exit_4_with_the_command_that_makes_one(place):
    result = check("run")
    assert result.exit_code == 4
    command = "ptqbench check run --baseline baselines/sample.toml --update"
    assert command in result.stderr
    made = CliRunner().invoke(cli, command.split()[1:])
    assert made.exit_code == 0
    assert check("run").exit_code == 0


def test_reports_are_written_without_a_baseline_too(place, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    result = check("run", "--out", "check.xml", "--out", "check.json")
    assert result.exit_code == 4
    assert "there is no baseline" in result.stdout
    suite = ElementTree.fromstring(Path("check.xml").read_text())
    assert (suite.get("skipped"), suite.get("failures")) == ("1", "0")
    assert json.loads(Path("check.json").read_text())["exit_code"] == 4
    assert "make one from this run" in Path("summary.md").read_text()
    broken = steady()
    broken.cells[0].status = "failed"
    write(place / "broken", broken)
    assert check("broken").exit_code == 5


def test_a_byte_order_mark_is_taken_in_every_file(place):
    check("run", "--update")
    for path in (Path("baselines/sample.toml"), place / "run" / "results.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert check("run").exit_code == 0


def test_the_report_opens_with_how_the_methods_compare(place):
    record = attach_comparisons(sampled_run({"plain": 5.0, "fitted": 4.0}))
    write(place / "told", record)
    check("told", "--update")
    sentence = "Better than plain: fitted (fd-digits@data"
    assert sentence in check("told").stdout
    assert f"**W4A8** {sentence}" in check("told", "--format", "md").stdout
    told = json.loads(check("told", "--format", "json").stdout)["headline"]
    assert [line["label"] for line in told] == ["", "W4A8"]


def test_a_regression_is_exit_1_and_names_what_a_reader_needs(place):
    check("run", "--update")
    result = check("worse")
    assert result.exit_code == 1
    line = next(x for x in result.stdout.splitlines() if "worse" in x and "fitted/W4A8" in x)
    assert "fd@data" in line
    assert "+0.296 \N{PLUS-MINUS SIGN} 0.0" in line
    assert "reproduce: ptqbench run recipes/sample.toml --only fitted/W4A8" in result.stdout
    assert check("worse", "--tier", "exact,cost").exit_code == 0


def test_update_does_not_accept_it_and_replace_does(place):
    check("run", "--update")
    before = Path("baselines/sample.toml").read_text()
    assert check("worse", "--update").exit_code == 1
    assert Path("baselines/sample.toml").read_text() == before
    assert check("worse", "--replace", "--reason", "a cheaper sampler").exit_code == 0
    assert 'reason = "a cheaper sampler"' in Path("baselines/sample.toml").read_text()
    assert check("worse").exit_code == 0
    assert check("run", "--update").exit_code == 0
    assert "better value taken: fitted/W4A8 fd@data" in Path("baselines/sample.toml").read_text()


def test_reports_are_written_by_suffix_and_the_step_summary_is_appended(place, monkeypatch):
    check("run", "--update")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    (place / "summary.md").write_text("before\n")
    result = check("worse", "--format", "json", "--out", "ci/check.xml", "--out", "ci/check.md")
    assert json.loads(result.stdout)["exit_code"] == 1
    assert Path("ci/check.xml").read_text().startswith("<?xml")
    summary = (place / "summary.md").read_text()
    assert summary == "before\n" + Path("ci/check.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tier", "exact,quality"], "quality"),
        (["--update", "--replace", "--reason", "x"], "choose one"),
        (["--replace"], "--reason"),
        (["--reason", "x"], "--reason goes with"),
        (["--update", "--tier", "stat"], "all tiers"),
        (["--out", "report.html"], ".xml"),
        (["--format", "yaml"], "yaml"),
    ],
)
def test_usage_errors(place, arguments, words):
    result = check("run", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not Path("baselines").exists()


def test_a_part_of_a_recipe_replaces_nothing(place):
    part = steady()
    part.recipe = {"sweep": {"only": ["fitted/W4A8"]}}
    write(place / "part", part)
    result = check("part", "--replace", "--reason", "x")
    assert result.exit_code == 2
    assert "--only" in result.stderr


def test_a_first_baseline_of_a_part_says_so_and_the_rest_is_new_until_it_is_added(place):
    part = steady()
    part.recipe, part.cells = {"sweep": {"only": ["fitted/W4A8"]}}, [c for c in part.cells if c.method == "fitted"]
    write(place / "part", part)
    result = check("part", "--update")
    assert result.exit_code == 0
    assert "a part of the recipe: fitted/W4A8" in result.stderr and "--update" in result.stderr
    assert "a part of the recipe: fitted/W4A8" in Path("baselines/sample.toml").read_text()
    whole = check("run")
    assert whole.exit_code == 0 and "1 new" in whole.stdout
    assert "added: plain/W4A8" in check("run", "--update").stderr
    assert "a part of the recipe" not in check("run", "--baseline", "other.toml", "--update").stderr


def test_confirm_needs_the_recipe(place):
    check("run", "--update")
    result = check("worse", "--confirm", "2")
    assert result.exit_code == 2
    assert "recipes/sample.toml" in result.stderr
