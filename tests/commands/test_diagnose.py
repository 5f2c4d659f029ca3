"""`ptqbench diagnose`: a small recipe from the command line."""

import json

import pytest
from click.testing import CliRunner
from e2ekit import write_recipe
from matplotlib.figure import Figure

from ptqbench.cli import cli
from ptqbench.errors import EXIT_CELL_FAILED, EXIT_OK, EXIT_USAGE


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"), weighter="uniform")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def unseen(monkeypatch):
    """Pictures are drawn and looked at in tests/diagnostics."""
    monkeypatch.setattr(Figure, "savefig", lambda _, path, **__: path.touch())


def diagnose(recipe, cache, out, *more):
    where = ["--cache", str(cache), "--out", str(out), "--device", "cpu", "--workers", "1"]
    return CliRunner().invoke(cli, ["diagnose", str(recipe), *where, *more])


def test_data_pictures_and_page(recipe, cache, tmp_path):
    done = diagnose(recipe, cache, tmp_path)
    assert done.exit_code == EXIT_OK, done.output
    data = json.loads((tmp_path / "diagnostics.json").read_text())
    assert [arm["arm"] for arm in data["arms"]] == [
        f"{name} W4A8, {phase}" for name in ("late", "gacq") for phase in ("rounding", "steps")
    ]
    assert data["arms"][2]["counterpart"] == "late W4A8, rounding"
    assert data["unfitted"] == ["nearest/W4A8/seed0"]
    assert [cost["source"] for cost in data["costs"]] == ["diagnosis"]
    assert "Gradient alignment of timestep groups" in done.stdout
    assert (tmp_path / "diagnostics.md").is_file()
    assert {"cosine-rounding.png", "agreement-steps.png", "cost.png"} <= {path.name for path in tmp_path.iterdir()}


def test_finished_runs_give_noise_error_and_cost(recipe, cache, tmp_path):
    done = CliRunner().invoke(
        cli, ["run", str(recipe), "--cache", str(cache), "--out", str(tmp_path / "run"), "--device", "cpu", "--workers", "1"]
    )
    assert done.exit_code == EXIT_OK, done.output
    assert diagnose(recipe, cache, tmp_path / "out").exit_code == EXIT_OK
    data = json.loads((tmp_path / "out" / "diagnostics.json").read_text())
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    cells = {cell["method"]: cell for cell in record["cells"]}
    (name,) = (name for name in cells["gacq"]["metrics"] if name.startswith("eps-error"))
    (chart,) = (found for found in data["noise_errors"] if found["title"] == f"{name} by timestep")
    rows = [dict(zip(chart["columns"], row, strict=True)) for row in chart["rows"]]
    expected = cells["gacq"]["metrics"][name]["detail"]["error"]
    assert [row["error"] for row in rows if row["method"] == "gacq"] == pytest.approx(expected, rel=1e-5)
    seconds = [sum(c["seconds"] for s, c in cells[m]["cost"].items() if s.startswith("reconstruct")) for m in ("gacq", "late")]
    (cost,) = data["costs"]
    assert cost["source"] == "run"
    assert cost["ratio"]["mean"] == pytest.approx(seconds[0] / seconds[1], rel=1e-4)
    assert (tmp_path / "out" / f"timesteps-{name}.png").is_file()


def test_some_cells_and_other_groups(recipe, cache, tmp_path):
    assert diagnose(recipe, cache, tmp_path, "--only", "gacq", "--groups", "2").exit_code == EXIT_OK
    data = json.loads((tmp_path / "diagnostics.json").read_text())
    assert len(data["groups"]) == 2
    assert {arm["method"] for arm in data["arms"]} == {"gacq"} and data["costs"] == []


@pytest.mark.parametrize(
    ("more", "words"),
    [(("--groups", "6"), "6 groups of 5 sampling steps"), (("--only", "nearest"), "no cell of this recipe fits anything")],
)
def test_nothing_to_look_into(recipe, cache, tmp_path, more, words):
    done = diagnose(recipe, cache, tmp_path, *more)
    assert done.exit_code == EXIT_USAGE
    assert words in done.output


def test_a_failed_cell_is_told(recipe, cache, tmp_path):
    done = diagnose(recipe, cache, tmp_path, "--set", "methods.gacq.weighter=refusing")
    assert done.exit_code == EXIT_CELL_FAILED
    assert "gacq/W4A8/seed0 failed: the toy weighter refuses" in done.stderr
    assert "the toy weighter refuses" in (tmp_path / "diagnostics.md").read_text()
