"""`list`, `describe`, `check-recipe`: what they print, and where."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes import entry_point_distribution, fake_manager, recipe

from ptqbench.cli import cli
from ptqbench.plugin.component import NOTES
from ptqbench.recipe.load import load_experiment

ROOT = Path(__file__).parents[2]

LATE = """
from typing import Literal
from pydantic import Field
from ptqbench import Component, Options, hookimpl
class LateOptions(Options):
    power: float = Field(2.0, gt=0, le=9, description="how strongly")
    kind: Literal["a", "b"] = Field("a", description="which")
    names: tuple[str, ...] = Field((), description="some [red]names[/red]")
    limit: int | None = Field(None, ge=1, description="at most")
    needed: int
@hookimpl
def ptqbench_components():
    return [Component("weighter", "late", "prefer [bold]late steps", "nowhere:Late", LateOptions, deviations=("none at all",))]
"""


@pytest.fixture
def late(tmp_path) -> str:
    path = tmp_path / "late.py"
    path.write_text(LATE)
    return str(path)


@pytest.fixture(autouse=True)
def fakes_only(monkeypatch):
    for command in ("list_", "describe"):
        monkeypatch.setattr(f"ptqbench.commands.{command}.PluginManager", fake_manager)


def ptqbench(*args: str, **env: str) -> Result:
    return CliRunner().invoke(cli, list(args), env=env)


def test_list_shows_role_component_plugin_and_distribution():
    result = ptqbench("list")
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("weighter") and "gacq" in line)
    assert line.split() == ["weighter", "gacq", "fakes", "fakedist", "1.2", "aligned"]
    assert "\x1b" not in result.stdout


def test_list_of_one_role_and_as_json():
    data = json.loads(ptqbench("list", "--role", "range", "--json").stdout)
    assert [c["name"] for c in data["components"]] == ["minmax", "mse"]
    assert data["failed"] == data["blocked"] == []


def test_list_shows_presets_as_the_role_method():
    line = next(line for line in ptqbench("list").stdout.splitlines() if line.startswith("method"))
    assert line.split() == ["method", "bands", "fakes", "fakedist", "1.2", "fit", "in", "bands"]
    data = json.loads(ptqbench("list", "--role", "method", "--json").stdout)
    assert [(c["role"], c["name"], c["paper"], c["plugin"]) for c in data["components"]] == [
        ("method", "bands", "arXiv:2", "fakes")
    ]


def test_list_with_a_single_file_plugin_and_a_recipe_that_names_one(late, tmp_path):
    assert "late.py" in ptqbench("list", "--plugin", late).stdout
    assert "prefer [bold]late" in ptqbench("list", "--plugin", late).stdout
    recipe = tmp_path / "r.toml"
    recipe.write_text('[recipe]\nplugins = ["late.py"]\n')
    assert "late.py" in ptqbench("list", "--recipe", str(recipe)).stdout


def test_list_marks_a_clash(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LATE.replace('"late"', '"gacq"'))
    out = ptqbench("list", "--plugin", str(path), COLUMNS="200").stdout
    clashing = [line for line in out.splitlines() if "clash" in line]
    assert len(clashing) == 2
    assert any("write mine.py/gacq" in line for line in clashing)


@pytest.mark.parametrize("columns", ["20", "40", "75", "76", "300"])
def test_list_loses_no_name_on_any_terminal(columns):
    out = ptqbench("list", COLUMNS=columns).stdout
    for name in ("activation-quantizer", "skip-split", "fakedist"):
        assert name in out


def test_describe_tells_options_paper_and_deviations(late):
    out = ptqbench("describe", "late", "--plugin", late).stdout
    for part in ("late, a weighter", "prefer [bold]late", "late.py", "none at all", "[red]names[/red]", "required"):
        assert part in out
    row = re.sub(r"\s+", " ", next(line for line in out.splitlines() if line.startswith("power")))
    assert row == "power number 2.0 > 0, <= 9 how strongly"
    data = json.loads(ptqbench("describe", "late", "--plugin", late, "--json").stdout)
    options = {row["name"]: row for row in data[0]["options"]}
    assert options["kind"]["type"] == '"a" | "b"'
    assert options["names"]["type"] == "array of string"
    assert (options["limit"]["type"], options["limit"]["bounds"]) == ("whole number", ">= 1")


def test_describe_shows_every_role_of_a_name_and_qualified_names():
    out = ptqbench("describe", "digits").stdout
    assert "a model source" in out
    assert "a feature extractor" in out
    assert "a model source" not in ptqbench("describe", "digits", "--role", "features").stdout
    assert ptqbench("describe", "fakes/gacq").exit_code == 0


def test_describe_a_preset(tmp_path):
    out = ptqbench("describe", "bands").stdout
    for part in ("bands, a method preset", "fit in bands", "arXiv:2", "differs from the paper: three", 'method = "bands"'):
        assert part in out
    parts = re.split(r"(?m)^(?=\[methods)", out.partition("Components")[0])
    assert tomllib.loads(parts[1].partition("The same")[0]) == {"methods": {"bands": {"method": "bands"}}}
    assert_written_out(tomllib.loads(parts[2])["methods"]["bands"])
    used = out.partition("Components")[2]
    for part in ("sampler: stride (plugin fakes): even", "weighter: uniform", "partitioner: blocks", "hooks: ptqd"):
        assert part in used
    notes = r"losses: haar \(plugin fakes\): bands\n +differs from the paper: two\n +the released code: goes on\n"
    assert re.search(notes, used)
    assert "cannot be used" not in used


def assert_written_out(table):
    """The table of "bands" is the same method as the preset, and hides no option."""
    raw = recipe()
    raw["methods"] = {"plain": {"method": "bands"}, "written": table}
    short, written = load_experiment(raw, manager=fake_manager()).cells[1:]
    assert short.method.key == written.method.key
    assert table["reconstruction"] == {"use": "brecq", "iterations": 9, "betas": [20.0, 2.0], "warmup": "auto"}
    assert table["weighter"] == "uniform"


def test_describe_a_preset_as_json():
    (data,) = json.loads(ptqbench("describe", "fakes/bands", "--role", "method", "--json").stdout)
    assert_written_out(data["table"])
    assert data["extends"] is None
    assert (data["paper"], data["deviations"], data["problems"]) == ("arXiv:2", ["three"], [])
    assert (data["unstated"], data["released"]) == (["how many; four"], ["has five"])
    chosen = {(c["key"], c["name"]): c for c in data["components"]}
    assert chosen["losses", "haar"]["deviations"] == ["two"]
    assert chosen["losses", "haar"]["released"] == ["goes on"]
    assert chosen["losses", "haar"]["options"] == {"levels": 3}
    assert ("weights.range", "minmax") in chosen


def test_describe_keeps_paper_and_released_code_apart(tmp_path):
    notes = "deviations=('one',), unstated=('the rate; 2 here',), released=('has another rate',)"
    path = tmp_path / "late.py"
    path.write_text(LATE.replace('deviations=("none at all",)', notes))
    out = ptqbench("describe", "late", "--plugin", str(path)).stdout
    expected = [
        "differs from the paper: one",
        "not known from the paper: the rate; 2 here",
        "the released code: has another rate",
    ]
    found = [line.strip() for line in out.splitlines() if any(heading in line for heading in NOTES.values())]
    assert found == expected
    (data,) = json.loads(ptqbench("describe", "late", "--plugin", str(path), "--json").stdout)
    assert [data[note] for note in NOTES] == [["one"], ["the rate; 2 here"], ["has another rate"]]


HEIR = """
from ptqbench import Preset, hookimpl
@hookimpl
def ptqbench_components():
    return [Preset("heir", "", {"weighter": "gacq"}, extends=BASE)]
"""


def test_describe_a_preset_with_what_it_inherits(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEIR.replace("BASE", '"bands"'))
    assert "with what it has of bands" in ptqbench("describe", "heir", "--plugin", str(path)).stdout
    (data,) = json.loads(ptqbench("describe", "heir", "--plugin", str(path), "--json").stdout)
    assert (data["table"]["weighter"]["use"], data["table"]["sampler"]["points"]) == ("gacq", 4)
    path.write_text(HEIR.replace("BASE", '"bnads"'))
    (data,) = json.loads(ptqbench("describe", "heir", "--plugin", str(path), "--json").stdout)
    assert data["problems"][0]["place"] == "extends"


def test_describe_a_preset_that_cannot_be_used(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ptqbench import Preset, hookimpl\n@hookimpl\ndef ptqbench_components():\n"
        "    return [Preset('bands', '', {'weighter': 'gaqc', 'wieghts': {}, 'sampler': 'random'})]\n"
    )
    out = ptqbench("describe", "mine.py/bands", "--plugin", str(path)).stdout
    assert 'method = "mine.py/bands"' in out
    assert "clash: also offered by plugin fakes; write mine.py/bands" in out
    assert 'cannot be used here: weighter: there is no weighter called "gaqc"' in out
    assert "cannot be used here: wieghts: unknown key" in out
    assert "sampler: random" in out


def test_describe_of_something_unknown():
    assert 'did you mean "bands"' in ptqbench("describe", "bnads").stderr
    result = ptqbench("describe", "gaqc")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert 'did you mean "gacq"' in result.stderr
    wrong = ptqbench("describe", "gacq", "--role", "sampler")
    assert "is a weighter, not a sampler" in wrong.stderr


def test_an_installed_distribution_shows_up(tmp_path):
    folder = entry_point_distribution(tmp_path, "trial-late", {"trial": "trial_late"}, {"trial_late.py": LATE})
    done = run("list", "--json", path=folder)
    found = [c for c in json.loads(done.stdout)["components"] if c["distribution"] == "trial-late"]
    assert [(c["plugin"], c["name"], c["version"]) for c in found] == [("trial", "late", "1.0")]


def test_with_everything_blocked_the_program_starts_and_explains_itself():
    done = run("list", PTQBENCH_BLOCK="*")
    assert done.returncode == 0
    assert "No components" in done.stdout
    assert "PTQBENCH_BLOCK" in done.stdout
    assert done.stderr == ""
    assert run("--help", PTQBENCH_BLOCK="*").returncode == 0


def test_a_broken_distribution_costs_one_warning(tmp_path):
    folder = entry_point_distribution(tmp_path, "trial-bad", {"bad": "trial_bad"}, {"trial_bad.py": "1 / 0"})
    done = run("list", "--json", path=folder)
    assert done.returncode == 0
    warnings = [line for line in done.stderr.splitlines() if "trial-bad" in line]
    assert len(warnings) == 1
    assert [f["plugin"] for f in json.loads(done.stdout)["failed"] if f["plugin"] == "bad"] == ["bad"]


def test_list_is_quick_and_imports_no_torch():
    code = (
        "import sys\nfrom ptqbench.cli import cli\nheavy = {'torch', 'numpy', 'diffusers'}\n"
        "try: cli.main(['list'])\nfinally: print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    seconds = []
    command = [sys.executable, "-c", code]
    for _ in range(3):
        # The processor's time, since a busy machine would make any program slow.
        start = os.times()
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        end = os.times()
        seconds.append(end.children_user + end.children_system - start.children_user - start.children_system)
        assert done.stderr.splitlines()[-1] == "[]"
    assert min(seconds) < 1.0


def environment(path: Path | None = None, **extra: str) -> dict[str, str]:
    folders = [str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", ""), str(path or "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folder for folder in folders if folder), **extra}


def run(*args: str, path: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ptqbench", *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment(path, **env), check=False)
