"""`ptqbench show` on a hand-made run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from comparison_samples import one_seed
from paired_samples import sampled_run

from ptqbench.cli import cli
from ptqbench.errors import EXIT_OK, EXIT_PLUGIN, EXIT_USAGE
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.record import HOOK_BYTES, Budget, RunRecord


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "results.json").write_text(one_seed().to_json(), encoding="utf-8")
    return tmp_path


def show(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["show", str(folder), *arguments])


def test_tables_in_every_format(folder: Path) -> None:
    marks = {"terminal": "qdiffusion", "markdown": "| qdiffusion", "csv": "method,bits", "latex": r"\begin{table}"}
    for name, words in marks.items():
        result = show(folder, "--format", name)
        assert result.exit_code == EXIT_OK
        assert words in result.stdout
    assert max(map(len, show(folder).stdout.splitlines())) <= 100


def test_the_main_table_first_and_the_rest_when_asked_for(folder: Path) -> None:
    short, whole = show(folder).stdout, show(folder, "--all").stdout
    assert whole.startswith(short[: short.index("Spreads over seeds")].rstrip())
    assert "show RUN --all" not in whole
    for words in ("Calibration budget", "as published"):
        assert words in whole and words not in short
    assert show(folder, "--all", "--format", "csv").exit_code == EXIT_OK


def test_a_kept_record_is_compared_when_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    record = sampled_run({"qdiffusion": 5.0, "gacq": 4.0})
    assert record.comparisons == []
    (tmp_path / "results.json").write_text(record.to_json(), encoding="utf-8")
    assert "Better than qdiffusion: gacq (fd-digits@data" in show(tmp_path).stdout


def test_json_is_the_record(folder: Path) -> None:
    assert show(folder, "--json").stdout == one_seed().to_json()
    cell = json.loads(show(folder, "--json", "--cell", "gacq/W4A32/seed0").stdout)
    assert cell["budget"]["validation"] == 26


def test_everything_about_a_cell(folder: Path) -> None:
    text = show(folder, "--cell", "gacq/W4A32/seed0").stdout
    for words in (
        "gacq/W4A32/seed0: ok",
        "eps-error in detail",
        "950",
        "validation samples",
        "calibrate",
        "8 bit per channel",
        "first-last-8bit",
    ):
        assert words in text
    assert "failed: noise predictions are not finite" in show(folder, "--cell", "gacq/W4A8/seed0").stdout


def test_the_parts_of_a_budget_and_what_hooks_weigh(tmp_path: Path) -> None:
    record = one_seed()
    cell = next(c for c in record.cells if c.id == "gacq/W4A32/seed0")
    (tmp_path / "results.json").write_text(record.to_json(), encoding="utf-8")
    words = ("in trajectories", "in hook-ptqd", "evaluations of single units", "in sampler hooks")
    assert not any(word in show(tmp_path, "--cell", cell.id).stdout for word in words)
    parts = {"trajectories": 512, "hook-ptqd": 1024}
    cell.budget = Budget(486, 26, 5200, 1536, unit_evaluations=77_000, by_stage=parts)
    cell.bits_summary = {"bytes": 612_345.0, HOOK_BYTES: 2048.0}
    (tmp_path / "results.json").write_text(record.to_json(), encoding="utf-8")
    lines = [line.split() for line in show(tmp_path, "--cell", cell.id).stdout.splitlines()]
    for expected in (
        "denoiser evaluations 1536",
        "in trajectories 512",
        "in hook-ptqd 1024",
        "evaluations of single units 77000",
        "in sampler hooks 2.0 KiB",
    ):
        assert expected.split() in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cell", "gacq/W4A9/seed0"), 'did you mean "gacq/W4A8/seed0"'),
        (("--format", "markdwon"), 'did you mean "markdown"'),
    ],
)
def test_misspelt_names_get_the_nearest_one(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    result = show(folder, *arguments)
    # A reporter that is not found may have come from a plugin that did not load, which is a plugin's fault.
    assert result.exit_code in (EXIT_USAGE, EXIT_PLUGIN)
    assert words in result.stderr
    assert result.stdout == ""


def test_a_folder_without_results(tmp_path: Path) -> None:
    result = show(tmp_path / "nothing")
    assert result.exit_code == EXIT_USAGE
    assert "no results at" in result.stderr


METRICS = {"latent-error": 4e-6, "eps-error": 2e-3, "psnr@fp": 30.0, "fd-digits@data": 5.0, "fd-digits@fp": 0.9}
"""The columns of the main recipe, and about how large its values are."""

NOISE = 6
"""How much more than in a sampled run its numbers scatter."""

SCREENS = 2 * 40
"""Lines of two screens."""


def like_the_main_job(levels: dict[str, float], seeds: int) -> RunRecord:
    """A run with columns like those of recipes/gacq_vs_qdiff.toml; `levels` are the methods' errors, the baseline's first."""
    record = sampled_run(levels, bits=("W4A32", "W4A8"), seeds=seeds)
    for cell in record.cells:
        base = cell.metrics["psnr@fp" if "psnr@fp" in cell.metrics else "fd-digits@data"]
        protocols = {name: f"{name}-protocol" for name in METRICS}
        if cell.method == "full-precision":
            own = cell.metrics["fd-digits@data"]
            cell.metrics = {"fd-digits@data": replace(own, protocol=protocols["fd-digits@data"])}
            continue
        error = cell.metrics["fd-digits@data"]
        cell.metrics = {}
        for name, size in METRICS.items():
            drawn, scale = (base, size / 25) if name == "psnr@fp" else (error, size / 5)
            level = levels[cell.method] if drawn is error else 30 - levels[cell.method]
            value, low, high, *rest = (
                (level + NOISE * (x - level)) * scale for x in (drawn.value, drawn.low, drawn.high, *drawn.replicates)
            )
            cell.metrics[name] = replace(
                drawn,
                value=value,
                low=low,
                high=high,
                replicates=rest,
                unit="trajectories" if name.endswith("-error") else "images",
                protocol=protocols[name],
            )
    return attach_comparisons(record)


@pytest.mark.parametrize(
    ("levels", "opening"),
    [
        ({"qdiffusion": 5.0, "nearest": 25.0, "ptq4dm": 5.01, "gacq": 3.5}, "Better than qdiffusion: gacq ("),
        ({"qdiffusion": 5.0, "nearest": 25.0, "ptq4dm": 7.0, "gacq": 5.01}, "Nothing is seen to beat qdiffusion."),
    ],
)
def test_the_main_job_fits_on_two_screens_and_says_who_won(tmp_path, monkeypatch, levels, opening) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    record = like_the_main_job(levels, seeds=4)
    # What may go wrong stands there as well: a cell that failed, and a site that nothing passes.
    record.cells[-1].status, record.cells[-1].reason = "failed", "predictions are not finite at 3 of 20 timesteps\n  look at it"
    record.cells[-2].constant = {"mid_block.attentions.0.to_out.0 input": 20}
    (tmp_path / "results.json").write_text(record.to_json(), encoding="utf-8")
    shown = show(tmp_path)
    assert shown.exit_code == EXIT_OK
    lines = shown.stdout.splitlines()
    assert len(lines) <= SCREENS, len(lines)
    assert max(map(len, lines)) <= 80
    told = [line for line in lines if line.startswith("W4A")][:2]
    assert [line.split(maxsplit=1)[1].startswith(opening) for line in told] == [True, True]
    assert lines.index(told[1]) < 20, "before any table"
    for heading in ("latent-", "eps-", "psnr", "fd-digits", "@data", "@fp"):
        assert heading in shown.stdout.partition("vs qdiffusion")[0] or heading in shown.stdout.partition("continued")[2]
