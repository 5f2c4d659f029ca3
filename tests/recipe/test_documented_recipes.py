"""The TOML and the preset that the documentation shows are what it says they are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import recipe

from ptqbench import cli, errors
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.sources import PluginInfo
from ptqbench.recipe import schema
from ptqbench.recipe.experiment import Method
from ptqbench.recipe.load import load_experiment

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"))


def load(methods: dict, manager: PluginManager, defaults: dict | None = None) -> dict[str, Method]:
    raw = recipe() | {"methods": methods, "defaults": defaults or {}}
    raw["recipe"] = {"name": "trial", "baseline": "full-precision"}
    raw["evaluation"] = {"features": "digits", "metrics": ["eps-error"]}
    return {cell.name: cell.method for cell in load_experiment(raw, manager=manager).cells if cell.method is not None}


@pytest.fixture
def manager() -> PluginManager:
    return PluginManager(block="", warn=lambda _: None)


def test_the_methods_that_start_from_a_preset(manager):
    (text,) = [block for block in blocks("recipes.md", "toml") if "tfmq-gacq" in block]
    found = load(tomllib.loads(text)["methods"], manager)
    assert {method.preset for method in found.values()} == {"tfmq-dm"}
    assert (found["tfmq-gacq"].weighter.name, found["tfmq-gacq"].passes) == ("gacq", ())
    before, after = (found[name].reconstruction.options.model_dump() for name in ("tfmq-dm", "tfmq-gacq"))
    assert {key for key in before if before[key] != after[key]} == {"iterations"}
    assert found["tfmq-quick"].key == found["tfmq-gacq"].key


def test_the_defaults_of_the_page(manager):
    (text,) = [block for block in blocks("recipes.md", "toml") if "[defaults]" in block]
    data = tomllib.loads(text)
    found = load(data["methods"], manager, data["defaults"])
    fits = {name: method.reconstruction.options.model_dump() for name, method in found.items()}
    assert {name: fit.get("iterations") for name, fit in fits.items()} == {"nearest": None, "brecq": 160, "eda-dm": 200}
    assert (fits["brecq"]["step_iterations"], "step_iterations" in fits["eda-dm"]) == (50, False)
    assert {tuple(p.name for p in method.passes) for method in found.values()} == {("first-last-8bit", "skip-split")}


def test_lines_of_losses_and_hooks(manager):
    lines = "".join(block for block in blocks("recipes.md", "toml") if block.startswith(("losses", "hooks")))
    (method,) = load({"mine": {"method": "brecq", **tomllib.loads(lines)}}, manager).values()
    assert [term.name for term in method.losses] == ["output", "layer-outputs"]
    assert [hook.name for hook in method.hooks] == ["ptqd"]


def test_the_preset_of_the_page_on_plugins(manager, tmp_path):
    manager.load_file(DOCS / "examples" / "late_weighter.py")
    (text,) = [block for block in blocks("plugins.md", "toml") if "[late-brecq.table]" in block]
    (tmp_path / "presets.toml").write_text(text)
    manager.register(SimpleNamespace(__path__=[str(tmp_path)]), PluginInfo("page", "pagedist", "1", "page"))
    found = load({"mine": {"method": "late-brecq"}, "base": {"method": "brecq"}}, manager)
    mine, base = found["mine"].key, found["base"].key
    assert found["mine"].weighter.options.model_dump() == {"factor": 2.0}
    assert {key for key in mine if mine[key] != base[key]} == {"weighter", "activations"}


def test_the_table_of_exit_codes_is_complete():
    page = (DOCS / "recipes.md").read_text(encoding="utf-8").partition("## Exit codes")[2]
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")} | {cli.EXIT_BUG}
    assert {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", page)} == codes


def test_every_key_of_a_recipe_is_in_the_table():
    table = (DOCS / "recipes.md").read_text(encoding="utf-8").partition("| section |")[2].partition("\n\n")[0]
    words = {word.rpartition(".")[2] for word in re.findall(r"`([\w.]+)`", table)}
    models = {model for kind in schema.Section.__subclasses__() for model in (kind, *kind.__subclasses__())}
    keys = {key for model in models - {schema.PublishedRowSection} for key in model.model_fields}
    assert len(keys) > 40
    assert sorted(keys - words) == []
