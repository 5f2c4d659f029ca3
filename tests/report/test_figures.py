"""Charts: the data that they carry, how far their axes reach, and the files that they become."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from comparison_samples import cell, one_seed, run
from paired_samples import sampled_run

from ptqbench.cli import cli
from ptqbench.errors import EXIT_OK, EXIT_USAGE
from ptqbench.report.figures import figures_of, write_figures
from ptqbench.report.forest import axis_limit
from ptqbench.report.series import APART, MOST_APART, _beside
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.fits import FitQuality, StageLosses, Weighting
from ptqbench.results.record import Number, RunRecord


@pytest.fixture
def record() -> RunRecord:
    return attach_comparisons(sampled_run({"qdiffusion": 5.0, "gacq": 4.0, "nearest": 900.0}))


def test_differences_carry_the_record_s_numbers(record: RunRecord) -> None:
    charts = figures_of(record)["differences"]
    assert len(charts) == len({c.metric for c in record.comparisons})
    rows = list(csv.DictReader(charts[0].csv().splitlines()))
    ours = [c for c in record.comparisons if charts[0].title.startswith(f"{c.metric}:")]
    assert [float(row["difference"]) for row in rows] == [c.difference for c in ours]
    assert [float(row["detectable"]) for row in rows] == [c.detectable for c in ours]


def test_an_axis_keeps_its_scale_beside_a_row_far_away(record: RunRecord) -> None:
    base = next(c for c in record.comparisons if c.difference is not None)
    near = [replace(base, difference=d, low=d - 1, high=d + 1, detectable=1.0) for d in (-1.0, 0.5, 2.0)]
    far = replace(base, difference=800.0, low=790.0, high=810.0, detectable=5.0)
    assert axis_limit(near) == pytest.approx(3.15)
    assert axis_limit([*near, far]) == axis_limit(near)


def test_each_bit_setting_has_its_axis_and_what_goes_beyond_an_edge_ends_in_an_arrow(record: RunRecord) -> None:
    base = next(c for c in record.comparisons if c.difference is not None)
    near = [replace(base, bits="W4A32", difference=d, low=d - 1, high=d + 1, detectable=1.0) for d in (-1.0, 0.5)]
    noisy = replace(near[0], difference=-2.0, low=-90.0, high=86.0)
    wide = [replace(one, bits="W4A8", low=-40.0, high=40.0) for one in near]
    compared = [*near, noisy, *wide]
    (chart,) = figures_of(replace(record, comparisons=compared))["differences"]
    first, second = chart.draw().axes
    unit = 2.1 / first.get_xlim()[1]
    assert [axes.get_xlim()[1] * unit for axes in (first, second)] == pytest.approx([2.1, 42.0])
    markers = [line.get_marker() for line in first.get_lines()]
    assert [markers.count(kind) for kind in "<>"] == [1, 1] and "arrow" in chart.caption
    assert not {line.get_marker() for line in second.get_lines()} & {"<", ">"}


def test_errors_by_timestep_are_means_over_seeds() -> None:
    chart = next(chart for chart in figures_of(one_seed())["timesteps"])
    rows = [row for row in csv.DictReader(chart.csv().splitlines()) if row["method"] == "gacq"]
    assert [(row["bits"], float(row["t"]), float(row["error"])) for row in rows] == [
        ("W4A32", 950.0, 0.00188),
        ("W4A32", 0.0, 0.5),
    ]


def test_costs_of_layers_carry_all_sites_and_draw_those_of_the_table() -> None:
    record = run(cell("gacq", "W4A8", 0, (1, 2, 3, 4, 5)))
    assert "layers" not in figures_of(record)
    shares = {f"layer{i}": Number(0.3 - i / 50, 0.2 - i / 50, 0.4, 16, unit="trajectories") for i in range(15)}
    record.cells[-1].sensitivity = shares
    (chart,) = figures_of(record)["layers"]
    rows = list(csv.DictReader(chart.csv().splitlines()))
    assert [(r["site"], float(r["share"]), float(r["low"])) for r in rows] == [(n, x.value, x.low) for n, x in shares.items()]
    (axes,) = chart.draw().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(shares)[:12]


def weighed(unit: str, by_step: list[float | None]) -> FitQuality:
    return FitQuality("rounding", unit, 9, StageLosses(1.0), weighter=Weighting(by_step=by_step))


def test_learned_weights_are_means_and_quarters_over_units_and_rows_with_equal_ones_are_one() -> None:
    record = run(*(cell("gacq", bits, 0, (1, 2, 3, 4, 5)) for bits in ("W4A32", "W4A8", "W2A8")))
    assert "weights" not in figures_of(record)
    for one in (c for c in record.cells if c.method == "gacq"):
        shift = float(one.bits == "W2A8")
        one.fits = [weighed("first", [1.0, 2.0 + shift, None]), weighed("mid", [3.0, None, None])]
    record.protocol["steps"] = 6
    (chart,) = figures_of(record)["weights"]
    rows = [(row["bits"], *(float(row[x]) for x in ("step", "mean", "quarter", "three_quarters"))) for row in
            csv.DictReader(chart.csv().splitlines())]  # fmt: skip
    assert rows == [
        ("W4A32+W4A8", 0.5, 2.0, 1.5, 2.5),
        ("W4A32+W4A8", 2.5, 2.0, 2.0, 2.0),
        ("W2A8", 0.5, 2.0, 1.5, 2.5),
        ("W2A8", 2.5, 3.0, 3.0, 3.0),
    ]
    assert len(chart.draw().axes) == 2


def test_a_diagnosis_of_some_cells_gives_maps_and_one_of_another_recipe_is_left_out(tmp_path: Path) -> None:
    record = replace(one_seed(), recipe={"model": {"use": "digits"}, "sweep": {"bits": ["W4A8"]}})
    assert "gradients" not in figures_of(record, tmp_path)
    maps = [[[1.0, 0.1 * m + seed], [0.1 * m + seed, None]] for seed in (0.0, 0.4) for m in range(5)]
    arm = {"method": "gacq", "variant": "", "bits": "W4A8", "phase": "rounding", "counterpart": ""}
    data = {
        "recipe": {"model": {"use": "digits"}, "sweep": {"bits": ["W4A8"], "only": ["gacq"]}},
        "groups": [[9, 5], [4, 0]],
        "arms": [{**arm, "rows": [{"seed": 0, "cosine": maps[:5]}, {"seed": 1, "cosine": maps[5:]}]}],
    }
    path = tmp_path / "diagnosis" / "diagnostics.json"
    path.parent.mkdir()
    path.write_text(json.dumps(data))
    (chart,) = figures_of(record, tmp_path)["gradients"]
    rows = {(r["moment"], r["timesteps"], r["other_timesteps"]): r["cosine"] for r in csv.DictReader(chart.csv().splitlines())}
    assert float(rows["middle", "9\N{EN DASH}5", "4\N{EN DASH}0"]) == pytest.approx(0.4)
    shown = chart.draw().axes
    assert [axes.get_title() for axes in shown] == ["start", "middle", "end, before hardening"]
    assert [text.get_text() for text in shown[2].texts] == ["1.00", "0.60", "0.60", "?"]
    left: list[str] = []
    for content, reason in ((json.dumps(data | {"recipe": {}}), "another recipe"), ("{}", "no diagnosis")):
        path.write_text(content)
        assert "gradients" not in figures_of(record, tmp_path, left.append)
        assert str(path) in left[-1] and reason in left[-1]


def test_the_latest_diagnosis_beside_the_run_is_its_own_where_the_recipe_is(tmp_path: Path) -> None:
    record = replace(one_seed(), recipe={"model": {"use": "digits"}})
    (run := tmp_path / "20260101-run").mkdir()
    for day, use, cosine in (("0101", "digits", 0.1), ("0102", "digits", 0.2), ("0103", "other", 0.3)):
        arm = {"method": "gacq", "variant": "", "bits": "W4A8", "phase": "rounding", "rows": [{"cosine": [[[cosine]]] * 5}]}
        folder = tmp_path / f"diagnosis-2026{day}"
        folder.mkdir()
        data = {"recipe": {"model": {"use": use}}, "groups": [[9, 0]], "arms": [arm]}
        (folder / "diagnostics.json").write_text(json.dumps(data))
    left: list[str] = []
    (chart,) = figures_of(record, run, left.append)["gradients"]
    assert [row["cosine"] for row in csv.DictReader(chart.csv().splitlines())] == ["0.2"] * 3 and not left


def test_places_of_nearly_equal_sizes_do_not_cover_each_other() -> None:
    assert _beside([586.6, 2000.0, 587.5]) == [-APART / 2, 0.0, APART / 2]
    many = _beside([500.0] * 100)
    assert max(many) - min(many) <= MOST_APART and len(set(many)) == 100


def test_every_figure_becomes_three_files_that_can_be_read(record: RunRecord, tmp_path: Path) -> None:
    written = write_figures(record, tmp_path / "new" / "folder")
    names = {path.stem for path in written}
    assert {path.suffix for path in written} == {".svg", ".pdf", ".csv"} and len(written) == 3 * len(names)
    for path in written:
        content = path.read_bytes()
        if path.suffix == ".svg":
            assert ElementTree.fromstring(content).tag.endswith("svg")
        elif path.suffix == ".pdf":
            assert content.startswith(b"%PDF")
    again = write_figures(record, tmp_path / "again")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]


def test_the_command_writes_beside_the_results_or_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(one_seed().to_json(), encoding="utf-8")
    assert CliRunner().invoke(cli, ["report", str(tmp_path)]).exit_code == EXIT_OK
    assert (tmp_path / "report.html").is_file()
    arguments = ["report", str(tmp_path / "results.json"), "--to", str(tmp_path / "deep" / "x.html")]
    assert CliRunner().invoke(cli, [*arguments, "--figures", str(tmp_path / "f")]).exit_code == EXIT_OK
    assert (tmp_path / "deep" / "x.html").read_text() == (tmp_path / "report.html").read_text()
    assert list((tmp_path / "f").glob("*.pdf"))
    assert r"\toprule" in (tmp_path / "f" / "tables.tex").read_text()


def test_a_target_that_cannot_be_written_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(one_seed().to_json(), encoding="utf-8")
    result = CliRunner().invoke(cli, ["report", str(tmp_path), "--to", str(tmp_path)])
    assert result.exit_code == EXIT_USAGE and "--to" in result.output
    assert CliRunner().invoke(cli, ["report", str(tmp_path / "none")]).exit_code == EXIT_USAGE


@pytest.mark.parametrize("words", [["--help"], ["list"], ["report", "--help"]])
def test_light_commands_import_neither_templates_nor_plots_nor_torch(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['ptqbench', *{words!r}]\nfrom ptqbench.cli import main\n"
        "try:\n main()\nexcept SystemExit:\n pass\n"
        "print([m for m in ('jinja2', 'matplotlib', 'torch') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("[]")
