"""`ptqbench compare`: two runs side by side, or a refusal with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from paired_samples import sampled_run

from ptqbench.cli import cli
from ptqbench.errors import EXIT_NOT_COMPARABLE, EXIT_OK, EXIT_USAGE
from ptqbench.results.record import RunRecord

METHODS = {"qdiffusion": 5.0, "gacq": 4.5}
LATER = {"qdiffusion": 5.0, "gacq": 5.3}


def finished(methods: dict[str, float], seed: int = 0) -> RunRecord:
    """A run whose full-precision numbers have what a comparison needs as well."""
    record = sampled_run(methods, seed=seed)
    record.cells[0].metrics = {"fd-digits@data": record.cells[1].metrics["fd-digits@data"]}
    return record


def compare(folder: Path, first: RunRecord, second: RunRecord, *arguments: str) -> Result:
    for name, record in (("a", first), ("b", second)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "results.json").write_text(record.to_json(), encoding="utf-8")
    return CliRunner().invoke(cli, ["compare", str(folder / "a"), str(folder / "b"), *arguments])


def test_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = compare(tmp_path, finished(METHODS), finished(LATER, seed=1))
    assert result.exit_code == EXIT_OK, result.output
    line = next(x for x in result.stdout.splitlines() if "gacq" in x and "fd-digits" in x)
    assert " worse" in line
    assert "full-precision" in result.stdout


def test_json(tmp_path: Path) -> None:
    result = compare(tmp_path, finished(METHODS), finished(METHODS), "--json")
    found = json.loads(result.stdout)["comparisons"]
    assert {c["verdict"] for c in found if c["method"] != "full-precision"} == {"no difference seen"}
    assert [c["verdict"] for c in found if c["method"] == "full-precision"] == [""]
    assert all(c["difference"] == 0 and c["p"] == 1 for c in found)


def test_some_numbers_refused(tmp_path: Path) -> None:
    second = finished(METHODS)
    for cell in second.cells:
        if "psnr@fp" in cell.metrics:
            cell.metrics["psnr@fp"].protocol = "other"
    result = compare(tmp_path, finished(METHODS), second)
    assert result.exit_code == EXIT_NOT_COMPARABLE
    assert "measured under another protocol" in " ".join(result.stdout.split())
    assert "0 unclear" in result.stdout


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("image seed", 99, "image seed (1234 against 99)"), ("steps", 50, "steps (20 against 50)")],
)
def test_other_noise_is_refused(tmp_path: Path, key: str, value: int, words: str) -> None:
    second = finished(METHODS)
    second.protocol[key] = value
    result = compare(tmp_path, finished(METHODS), second)
    assert result.exit_code == EXIT_NOT_COMPARABLE
    assert words in result.stderr
    assert "run one of them again" in result.stderr


def test_nothing_in_common(tmp_path: Path) -> None:
    second = finished(METHODS)
    for cell in second.cells:
        cell.id += "x"
    result = compare(tmp_path, finished(METHODS), second)
    assert result.exit_code == EXIT_NOT_COMPARABLE
    assert "no finished cell in common" in result.stderr


def test_nothing_comparable(tmp_path: Path) -> None:
    second = finished(METHODS)
    for cell in second.cells:
        for number in cell.metrics.values():
            number.protocol = "other"
    result = compare(tmp_path, finished(METHODS), second)
    assert result.exit_code == EXIT_NOT_COMPARABLE
    assert "no number of the two runs can be compared" in result.stderr
    assert "another protocol" in result.stderr


def test_no_results(tmp_path: Path) -> None:
    assert CliRunner().invoke(cli, ["compare", str(tmp_path), str(tmp_path)]).exit_code == EXIT_USAGE
