"""Output appears whatever the code page, the reader and the home folder are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gate_samples import steady
from paired_samples import sampled_run

from ptqbench.commands.options import default_cache
from ptqbench.errors import EXIT_OK, EXIT_REGRESSION
from ptqbench.results.compare import attach_comparisons


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record = attach_comparisons(sampled_run({"qdiffusion": 5.0, "gacq": 4.5}))
    record.title = "M\N{LATIN SMALL LETTER U WITH DIAERESIS}nster \N{GREEK SMALL LETTER ALPHA}"
    (tmp_path / "results.json").write_text(record.to_json(), encoding="utf-8")
    return tmp_path


def shell(line: str, *, encoding: str = "utf-8", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A line of bash in which `ptqbench` is the console script's function."""
    script = f'set -o pipefail; ptqbench() {{ {sys.executable} -m ptqbench "$@"; }}; {line}'
    surroundings = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100", **environment}
    return subprocess.run(["bash", "-c", script], capture_output=True, env=surroundings, timeout=120)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_every_code_page_shows_a_run_with_its_signs(folder: Path, encoding: str) -> None:
    done = shell(f"ptqbench show {folder}", encoding=encoding)
    assert done.returncode == EXIT_OK, done.stderr
    text = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)
    assert "Better than qdiffusion: gacq" in text
    assert re.search(r"gacq \(fd-digits@data [-\N{MINUS SIGN}][\d.]+ (\+-|\N{PLUS-MINUS SIGN}) [\d.]+ %", text)


def test_json_needs_no_code_page(folder: Path) -> None:
    assert json.loads(shell(f"ptqbench show {folder} --json", encoding="ascii").stdout)["title"].startswith("M\u00fcnster")


def test_a_reader_that_leaves_changes_no_exit_code(tmp_path: Path) -> None:
    good, bad = steady(), steady()
    for cell in bad.cells:
        cell.weight_bytes += 1
    for name, record in (("good", good), ("bad", bad)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(record.to_json(), encoding="utf-8")
    baseline = f"--baseline {tmp_path / 'b.toml'}"
    assert shell(f"ptqbench check {tmp_path}/good {baseline} --update").returncode == EXIT_OK
    # A reader that reads nothing at all leaves for certain before anything is written.
    codes = {name: shell(f"ptqbench check {tmp_path}/{name} {baseline} | true").returncode for name in ("good", "bad")}
    assert codes == {"good": EXIT_OK, "bad": EXIT_REGRESSION}
    assert shell(f"ptqbench check {tmp_path}/good {baseline} | head -1").returncode == EXIT_OK


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(folder: Path, closed: str) -> None:
    assert shell(f"ptqbench show {folder} {closed}").returncode == EXIT_OK


def test_a_user_without_a_home_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("PTQBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert default_cache().name.startswith("ptqbench-")
