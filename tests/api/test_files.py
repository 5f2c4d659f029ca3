"""Paths that cannot be used are refused before anything is computed, with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from e2ekit import write_recipe
from paired_samples import sampled_run

from ptqbench.api.files import require_file, require_folder
from ptqbench.cli import cli
from ptqbench.errors import EXIT_USAGE, UserError


def ptqbench(*words: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)))


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be computed."""
    for where in ("ptqbench.running.run.run_experiment", "ptqbench.diagnostics.collect.collect"):
        monkeypatch.setattr(where, lambda *_: pytest.fail("computed before the path was checked"))


def blocked(folder: Path) -> Path:
    """A path below a file: nobody can write there, not even an administrator."""
    (folder / "file").write_text("x")
    return folder / "file" / "deep" / "out"


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("command", ["run", "diagnose"])
@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_out_and_cache_are_checked_first(tmp_path: Path, command: str, option: str) -> None:
    recipe, path = write_recipe(tmp_path), blocked(tmp_path)
    given = {"--cache": tmp_path / "cache", "--out": tmp_path / "out", option: path}
    result = ptqbench(command, recipe, "--device", "cpu", *(word for pair in given.items() for word in pair))
    assert result.exit_code == EXIT_USAGE, result.output
    assert result.stderr == f"error: {option} {path}: {tmp_path / 'file'} is a file, and a folder is needed\n" + (
        f"  give another {option}\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = ptqbench("plan", write_recipe(tmp_path), "--device", "cpu", "--cache", tmp_path / "file")
    assert result.exit_code == EXIT_USAGE
    assert "is a file, and a folder is needed" in result.stderr


@pytest.mark.parametrize("text", [b"\xff\xfe", b"{", b"[]"])
def test_results_that_are_no_results(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "results.json").write_bytes(text)
    result = ptqbench("show", tmp_path)
    assert result.exit_code == EXIT_USAGE, result.output
    assert f"error: {tmp_path / 'results.json'} " in result.stderr
    assert "Traceback" not in result.stderr


def test_check_knows_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(sampled_run({"qdiffusion": 5.0}).to_json())
    result = ptqbench("check", tmp_path, "--out", blocked(tmp_path) / "report.md")
    assert result.exit_code == EXIT_USAGE
    assert "--out" in result.stderr


def test_what_can_be_written_passes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    require_folder(tmp_path / "a" / "b", "--out")
    require_file(tmp_path / "a" / "page.md", "--out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="is a folder, and a file is needed"):
        require_file(tmp_path, "--out")


def test_a_folder_that_takes_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match=f"nothing can be written to {tmp_path}: permission denied"):
        require_folder(tmp_path / "a", "--cache")
