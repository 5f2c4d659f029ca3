"""Reading recipe files, and the plugins that they name."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import SMALL, fake_manager

from ptqbench.errors import EXIT_PLUGIN, PluginError
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.load import load_experiment
from ptqbench.recipe.problems import RecipeError

GOOD = f"""
[recipe]
name = "trial"
baseline = "full-precision"
plugins = [{{plugins}}]
{SMALL}[methods.rtn]
weighter = "{{weighter}}"
"""

PLUGIN = """
from ptqbench import Component, hookimpl
class Late: ...
@hookimpl
def ptqbench_components():
    return [Component("weighter", "late", "prefer late timesteps", Late)]
"""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"  \n\n", "the file is empty"),
        (b"# nothing\n", "only comments"),
        (b"[recipe\n", "not valid TOML"),
        (b"[recipe]\nname = \"a\"\nname = \"b\"\n", "not valid TOML"),
        (b"[recipe]\nname = 'x'\nthis is prose\n", "line 3"),
        (b"{\"json\": 1}", "not valid TOML"),
        (b"a = " + b"[" * 5000, "not valid TOML"),
        (b"\xff\xfe\x00r", "not UTF-8"),
        (b"a = " + b"9" * 5000, "not valid TOML"),
        (b"#" * (2 << 20), "larger than 1024 KiB"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_recipe(tmp_path, content, reason):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    error = refused(path)
    assert reason in str(error)
    assert "bad.toml" in str(error)


def test_a_missing_file_and_a_folder(tmp_path):
    (tmp_path / "trial.toml").write_text(GOOD)
    (tmp_path / "trailer.toml").write_text("[tool.trailer]")
    assert 'did you mean "trial.toml"? recipes there: trial.toml' in str(refused(tmp_path / "trail.toml"))
    assert "a folder" in str(refused(tmp_path))


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(GOOD.format(plugins="", weighter="uniform"), encoding="utf-8-sig")
    assert load_experiment(path, manager=fake_manager()).name == "trial"


def test_a_plugin_is_found_beside_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "late.py").write_text(PLUGIN)
    path = tmp_path / "r.toml"
    path.write_text(GOOD.format(plugins='"./late.py"', weighter="late"))
    monkeypatch.chdir("/")
    experiment = load_experiment(path, manager=fake_manager())
    assert experiment.plugin_files == ((tmp_path / "late.py").resolve(),)
    method = experiment.cells[1].method
    assert method is not None
    assert (method.weighter.name, method.weighter.plugin) == ("late", "late.py")


BROKEN_PLUGINS = {
    "no file": (None, "does not exist"),
    "import error": ("import no_such_module\n", "ModuleNotFoundError"),
    "syntax error": ("def :\n", "SyntaxError"),
    "bug": ("1 / 0\n", "ZeroDivisionError"),
    "no hook": ("x = 1\n", "implements no hook"),
    "misspelt hook": (PLUGIN.replace("components", "compnoents"), 'did you mean "ptqbench_components"?'),
    "wrong return": (PLUGIN.replace("return [", "return 3 #"), "returned int instead of a list"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN_PLUGINS.values(), ids=BROKEN_PLUGINS)
@pytest.mark.parametrize("weighter", ["uniform", "late"])
def test_a_plugin_that_does_not_load_exits_as_a_plugin_error(tmp_path, source, reason, weighter):
    if source is not None:
        (tmp_path / "late.py").write_text(source)
    path = tmp_path / "r.toml"
    path.write_text(GOOD.format(plugins='"late.py"', weighter=weighter))
    axis = 'sweep."methods.*.weighter.factor"=[1, 2]'
    with pytest.raises(PluginError) as caught:
        load_experiment(path, overrides=[axis] if weighter == "late" else [], manager=fake_manager())
    assert caught.value.exit_code == EXIT_PLUGIN
    assert [problem.place for problem in caught.value.problems] == ["recipe.plugins[0]"]
    assert reason in caught.value.message
    follows = 'perhaps therefore: methods.rtn.weighter: there is no weighter called "late"'
    assert (follows in caught.value.message) == (weighter == "late")


def test_a_mistake_of_the_recipe_beside_a_plugin_that_does_not_load_exits_as_one_of_the_recipe(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(GOOD.format(plugins='"late.py"', weighter="late").replace("images = 16", "images = 0"))
    assert [problem.place for problem in refused(path).problems] == ["recipe.plugins[0]", "sampling.images"]


def test_a_preset_that_a_broken_plugin_may_bring_is_told_under_it(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(GOOD.format(plugins='"late.py"', weighter="uniform").replace("weighter =", 'method = "late-brecq" #'))
    with pytest.raises(PluginError) as caught:
        load_experiment(path, manager=fake_manager())
    assert 'perhaps therefore: methods.rtn.method: there is no method preset called "late-brecq"' in caught.value.message


def test_a_needed_plugin_that_was_blocked_exits_as_a_plugin_error(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(GOOD.format(plugins="", weighter="uniform"))
    with pytest.raises(PluginError) as caught:
        load_experiment(path, manager=PluginManager(block="*"))
    assert caught.value.exit_code == EXIT_PLUGIN
    assert "methods.rtn.weighter" in caught.value.message
    assert "blocked by PTQBENCH_BLOCK" in caught.value.hint


def refused(path: Path) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_experiment(path, manager=fake_manager())
    assert caught.value.exit_code == 2
    return caught.value
