"""Who may import whom: every arrow of the core goes down its floors and none in a circle; the core no plugin, a plugin no
other plugin, and no plugin's entry point torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from ptqbench.plugin.hookspecs import HOOKS

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").is_file())


def imported(path: Path) -> set[str]:
    """Top-level packages that a file names in import statements, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


FLOORS = (
    "errors digest version process streams files",
    "plugin",
    "failures stage/counting",
    "quant/grid quant/ledger quant/plan quant/steps quant/units evaluate",
    "results recipe",
    "roles",
    "quant roles/exporter roles/engine",
    "boundary",
    "stage",
    "sampling",
    "measuring",
    "fitting",
    "running",
    "deployment",
    "gate findings studies report diagnostics benchmarks kit testing",
    "api",
    "commands",
    "cli __init__ __main__",
)
"""The house from the ground up: a file may import what stands on its own floor or below, and nothing above."""

DATA_ROOMS = ("results", "gate", "findings", "studies", "report")
MACHINERY = ("stage", "sampling", "fitting", "measuring", "running")


@cache
def modules() -> dict[str, set[str]]:
    """Every file of the core ("quant/grid") with the files of the core that it imports, type-checking imports included."""
    core = ROOT / "ptqbench"
    # Templates are files of an author of plugins.
    own = (path for path in core.rglob("*.py") if path.parent != core / "kit/templates")
    files = {path.relative_to(core).with_suffix("").as_posix(): path for path in own}

    def file_of(dotted: str) -> str:
        name = "/".join(dotted.split(".")[1:])
        return name if name in files else f"{name}/__init__".lstrip("/")

    found: dict[str, set[str]] = {}
    for name, path in files.items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Import | ast.ImportFrom)]
        dotted = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        for n in nodes:
            if isinstance(n, ast.ImportFrom) and n.module:
                inner = {f"{n.module}.{alias.name}" for alias in n.names}
                within = {m for m in inner if m.startswith("ptqbench.") and not file_of(m).endswith("__init__")}
                dotted |= within or {n.module}
        found[name] = {file_of(m) for m in dotted if m.split(".")[0] == "ptqbench"} - {name}
    return found


def floor(name: str) -> int:
    levels = {entry: i for i, entries in enumerate(FLOORS) for entry in entries.split()}
    return levels.get(name, levels.get(name.split("/")[0], -1))


def test_every_import_of_the_core_goes_down_the_floors():
    found = modules()
    assert [name for name in found if floor(name) < 0] == []
    assert [f"{a} imports {b}" for a, imports in found.items() for b in imports if floor(b) > floor(a)] == []


def test_no_files_of_the_core_import_each_other_in_a_circle():
    found = dict(modules())
    while leaves := [name for name, imports in found.items() if not imports & found.keys()]:
        for name in leaves:
            del found[name]
    assert found == {}


@pytest.mark.parametrize("room", DATA_ROOMS)
def test_rooms_that_work_from_records_import_no_machinery(room):
    wrong = {
        f"{name} imports {b}"
        for name, imports in modules().items()
        for b in imports
        if name.startswith(f"{room}/") and b.split("/")[0] in MACHINERY
    }
    assert wrong == set()


def test_the_core_imports_no_plugin():
    files = list((ROOT / "ptqbench").rglob("*.py"))
    assert len(files) > 50
    assert [f"{path}: {name}" for path in files for name in imported(path) if name.startswith("ptqbench_")] == []


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_no_other_plugin(plugin):
    files = list((ROOT / "plugins" / plugin).rglob("*.py"))
    others = {name for path in files for name in imported(path) if name.startswith("ptqbench_")} - {plugin}
    assert others == set()


def test_every_plugin_has_an_entry_point_and_a_card():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]["ptqbench"]
    assert declared == {plugin.removeprefix("ptqbench_"): plugin for plugin in PLUGINS}
    assert [plugin for plugin in PLUGINS if not (ROOT / "plugins" / plugin / "README.md").is_file()] == []


def test_registering_all_plugins_imports_nothing_heavy():
    hooks = f"[getattr(__import__(name), hook, list)() for name in {PLUGINS} for hook in {HOOKS}]"
    heavy = {"torch", "torchvision", "diffusers", "numpy", "scipy", "sklearn", "PIL", "safetensors", "transformers"}
    code = (
        f"import sys; sys.path[:0] = {[path for path in sys.path if path]}; {hooks}; print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_on_architecture_knows_the_rooms_and_the_way_through_them():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "ptqbench").glob("*/__init__.py")}
    assert set(re.findall(r"(?m)^\| `ptqbench/(\w+)/` \|", page)) == rooms
    walk = re.findall(r"(?m)^\d+\. `([\w/.]+)`:", page)
    assert 10 < len(walk) <= 25
    assert len(set(walk)) == len(walk)
    assert [name for name in walk if not (ROOT / name).is_file()] == []
