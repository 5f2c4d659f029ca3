"""`ptqbench new-plugin` writes plugins that install, pass their own tests, are listed, and hold to the contract."""

from __future__ import annotations

import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes import entry_point_distribution

from ptqbench.cli import cli
from ptqbench.errors import EXIT_USAGE, UserError
from ptqbench.kit.scaffold import TEMPLATES, plugin_files, use_of
from ptqbench.plugin.hookspecs import ROLES
from ptqbench.plugin.manager import PluginManager

ROLE_NAMES = [role.name for role in ROLES]
LISTED = "test_it_is_listed_and_its_options_are_explained"


def new(folder: Path, name: str, role: str, *more: str) -> Result:
    return CliRunner().invoke(cli, ["new-plugin", name, "--role", role, "--out", str(folder), *more])


def test_there_is_a_template_for_every_role_and_no_other():
    assert sorted(path.stem for path in TEMPLATES.glob("*.py")) == sorted(ROLE_NAMES)


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_single_file_holds_to_the_contract_as_it_is_written(tmp_path, role):
    """As the tests say that are written beside it."""
    done = new(tmp_path, "my-idea", role, "--single-file")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_idea.py", "test_my_idea.py"]
    tests = runpy.run_path(str(tmp_path / "test_my_idea.py"))
    conformance = tests["test_conformance"]
    (trial,) = conformance.pytestmark[0].args[1]
    assert (trial.bound.role, trial.bound.name) == (role, "my-idea")
    conformance(trial)
    tests[LISTED]()


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_distribution_is_the_same_plugin_in_two_modules(tmp_path, role, monkeypatch):
    """Installed as pip would have it; its registration imports no torch."""
    files = plugin_files("my-idea", role, single=False)
    sources = {path: text for path, text in files.items() if path.startswith("ptqbench_")}
    for loaded in [name for name in sys.modules if name.startswith("ptqbench_my_idea")]:
        monkeypatch.delitem(sys.modules, loaded)
    folder = entry_point_distribution(tmp_path, "ptqbench-my-idea", {"my-idea": "ptqbench_my_idea"}, sources)
    monkeypatch.syspath_prepend(str(folder))
    record = PluginManager().find(role, "my-idea")
    assert record.plugin.distribution == "ptqbench-my-idea"
    single = importlib.import_module("ptqbench_my_idea")
    assert "torch" not in vars(single)
    found = record.component.load()
    assert (found.__module__, found.__name__) == ("ptqbench_my_idea.component", "MyIdea")
    (tmp_path / "test_my_idea.py").write_text(files["tests/test_my_idea.py"])
    runpy.run_path(str(tmp_path / "test_my_idea.py"))[LISTED]()


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_no_name_of_the_template_is_left(role):
    for single in (True, False):
        for path, text in plugin_files("my-idea", role, single=single).items():
            words = text.replace("for example", "").lower()
            assert "example" not in words, path
            if path.endswith(".py"):
                compile(text, path, "exec")


def test_a_recipe_line_names_the_component():
    assert use_of("weighter").endswith('weighter = "example"')


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    done = new(tmp_path / "file", "x", "metric")
    assert done.exit_code == EXIT_USAGE
    assert "file" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["Late", "late_steps", "1st", "-a", "a-", "a b", ""])
def test_names_that_cannot_be_packages_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="is no name for a plugin"):
        plugin_files(name, "weighter", single=True)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "late.py").write_text("mine")
    done = new(tmp_path, "late", "weighter", "--single-file")
    assert done.exit_code == EXIT_USAGE
    assert "late.py is there already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["late.py"]
    assert (tmp_path / "late.py").read_text() == "mine"


def test_installed_in_a_folder_of_its_own_it_is_listed_and_passes_its_tests(tmp_path):
    assert new(tmp_path / "made", "late-steps", "weighter").exit_code == 0
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(tmp_path / "made")], check=True)
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    listing = [sys.executable, "-m", "ptqbench", "list", "--role", "weighter"]
    done = subprocess.run(listing, env=env, capture_output=True, text=True, check=True)
    assert "late-steps" in done.stdout
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "made" / "tests")]
    done = subprocess.run(tests, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
