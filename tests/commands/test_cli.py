"""Exit codes and messages of the command line as a whole."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner, Result
from fakes import SMALL, entry_point_distribution, fake_manager

from ptqbench import __version__, cli
from ptqbench.commands import doctor
from ptqbench.errors import PluginError, UserError

GOOD = f"""
[recipe]
name = "trial"
baseline = "rtn"
{SMALL}[methods.rtn]
"""


def ptqbench(*args: str) -> Result:
    return CliRunner().invoke(cli.cli, list(args))


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> str:
    monkeypatch.setattr("ptqbench.recipe.load.PluginManager", fake_manager)
    path = tmp_path / "trial.toml"
    path.write_text(GOOD)
    return str(path)


def test_version():
    assert ptqbench("--version").stdout == f"ptqbench, version {__version__}\n"


def test_a_misspelt_command_is_a_usage_error():
    result = ptqbench("lst")
    assert result.exit_code == 2
    assert 'Did you mean "list"?' in result.stderr
    assert ptqbench("list", "--rolle", "x").exit_code == 2


def raising(error: BaseException) -> click.Command:
    def callback() -> None:
        raise error

    return click.Command("list", callback=callback)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("it is wrong", "mend it"), 2, "error: it is wrong\n  mend it\n"),
        (PluginError("it is gone"), 3, "error: it is gone\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("oh"), cli.EXIT_BUG, "this is a bug"),
        (SystemExit(5), 5, ""),
        (
            FileNotFoundError(2, "No such file or directory", "a/b"),
            2,
            "error: a/b: no such file or directory\n  check the name",
        ),
        (PermissionError(13, "Permission denied", "a/b"), 2, "error: a/b: permission denied\n  name a path that you may"),
        (NotADirectoryError(20, "Not a directory", "a/b"), 2, "error: a/b: not a directory\n  a file stands where"),
        (OSError(28, "No space left on device"), 2, "error: no space left on device\n  make room"),
        (OSError("oh"), cli.EXIT_BUG, "this is a bug"),
    ],
)
def test_exit_codes(monkeypatch, error, code, said):
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: raising(error))
    result = ptqbench("list")
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
    assert ("Traceback" in result.stderr) == (code == cli.EXIT_BUG)


def test_a_command_s_number_is_the_exit_code(monkeypatch):
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: click.Command("list", callback=lambda: 4))
    assert ptqbench("list").exit_code == 4


def test_help_lists_every_command_without_importing_any(monkeypatch):
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    out = ptqbench("--help").stdout
    for name in cli.COMMANDS:
        assert name in out


def test_a_plugin_s_command_runs(tmp_path, monkeypatch):
    source = (
        "import click\nfrom ptqbench import hookimpl\n@hookimpl\ndef ptqbench_commands():\n"
        "    return [click.Command('trial', callback=lambda: click.echo('hello'), short_help='A trial.')]\n"
    )
    folder = entry_point_distribution(tmp_path, "extern", {"c": "extern_c"}, {"extern_c.py": source})
    monkeypatch.syspath_prepend(str(folder))
    assert ptqbench("trial").stdout == "hello\n"
    assert "A trial." in ptqbench("--help").stdout


def test_check_recipe_says_ok_and_counts(recipe):
    result = ptqbench("check-recipe", recipe)
    assert result.exit_code == 0
    assert "ok, 2 cells (1 methods and full precision)" in result.stdout
    data = json.loads(ptqbench("check-recipe", recipe, "--json").stdout)
    assert [cell["id"] for cell in data["cells"]] == ["full-precision", "rtn/W8A8/seed0"]


def test_check_recipe_lists_what_each_method_is_made_of(recipe, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    more = ("--set", 'methods.mine={method="bands"}', "--set", 'sweep."methods.mine.sampler"=["random", "stride"]')
    lines = [line.split() for line in ptqbench("check-recipe", recipe, *more).stdout.splitlines()]
    headings = ["method", "bits", "preset", "sampler", "weighter", "reconstruction", "losses", "weights", "activations"]
    assert [*headings, "passes", "hooks"] in lines
    rows = {row["method"]: row for row in json.loads(ptqbench("check-recipe", recipe, *more, "--json").stdout)["methods"]}
    assert rows["mine"] == {
        "method": "mine",
        "bits": "W8A8",
        "preset": "bands",
        "network": "",
        "sampler": "random | stride",
        "weighter": "uniform",
        "reconstruction": "brecq",
        "losses": "output, haar",
        "weights": "adaround/minmax",
        "activations": "lsq/minmax, 10 step groups",
        "passes": "ends",
        "hooks": "ptqd",
    }
    assert (rows["rtn"]["preset"], rows["rtn"]["losses"], rows["rtn"]["hooks"]) == ("", "", "")


def test_check_recipe_says_of_a_library_s_row_what_the_library_reads(recipe):
    done = ptqbench("check-recipe", recipe, "--set", 'methods.mine={network="library"}', "--json")
    row = next(row for row in json.loads(done.stdout)["methods"] if row["method"] == "mine")
    assert {key: value for key, value in row.items() if value} == {
        "method": "mine",
        "bits": "W8A8",
        "network": "library",
        "sampler": "random",
    }


def test_check_recipe_leaves_out_columns_that_say_nothing(recipe, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    headings = ptqbench("check-recipe", recipe).stdout.splitlines()[2].split()
    assert headings == ["method", "bits", "sampler", "weighter", "reconstruction", "weights", "activations"]


def test_check_recipe_prints_problems_on_stderr_and_as_json(recipe):
    result = ptqbench("check-recipe", recipe, "--set", "sampling.stepz=1", "--set", "model.use=x")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "2 problems" in result.stderr
    assert "Traceback" not in result.stderr
    listed = ptqbench("check-recipe", recipe, "--set", "sampling.stepz=1", "--json")
    assert listed.exit_code == 2
    data = json.loads(listed.stdout)
    assert (data["ok"], [p["place"] for p in data["problems"]]) == (False, ["sampling.stepz"])


def found(**broken: str) -> dict:
    return {"devices": ["cpu"], "threads": 2, "broken": broken}


def doctor_says(monkeypatch, probe: dict) -> Result:
    monkeypatch.setattr(doctor, "_probe", lambda: probe)
    monkeypatch.setattr(doctor, "PluginManager", lambda warn: fake_manager())
    return ptqbench("doctor")


def test_doctor_is_content(monkeypatch, tmp_path):
    monkeypatch.setenv("PTQBENCH_CACHE", str(tmp_path / "cache"))
    result = doctor_says(monkeypatch, found())
    assert result.exit_code == 0
    assert result.stdout.endswith("usable\n")
    assert str(tmp_path / "cache") in result.stdout
    assert json.loads(ptqbench("doctor", "--json").stdout)["ok"] is True


def test_doctor_lists_the_plugins_of_a_distribution_in_one_line():
    loaded = [{"name": "brecq", "from": "ptqbench 0.1.0"}, {"name": "ours", "from": "ours.py"}]
    loaded.append({"name": "lsq", "from": "ptqbench 0.1.0"})
    assert doctor._plugin_lines(loaded) == [("plugins", "ptqbench 0.1.0: brecq, lsq"), ("plugins", "ours.py: ours")]
    assert doctor._plugin_lines([]) == [("plugins", "none")]


def test_doctor_names_a_torchvision_mismatch_once_with_the_remedy(monkeypatch):
    nms = "RuntimeError: operator torchvision::nms does not exist"
    result = doctor_says(monkeypatch, found(torchvision=nms, pytorch_fid=nms, diffusers="ImportError: torchvision"))
    assert result.exit_code == 2
    errors = [line for line in result.stdout.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "does not fit torch" in errors[0]
    assert "pip install --upgrade --force-reinstall torch torchvision" in errors[0]


def test_doctor_reports_a_process_that_dies(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE", "import os; os.abort()")
    probe = doctor._probe()
    assert "ended Python" in probe["broken"]["torch"]
    assert doctor_says(monkeypatch, probe).exit_code == 2
