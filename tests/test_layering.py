"""Who may import whom: the core no plugin, a plugin no other plugin, and no plugin's entry point torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for plugin in PLUGINS:
        assert f'= "{plugin}"' in text
        assert (ROOT / "plugins" / plugin / "README.md").is_file()


def test_importing_all_plugins_imports_no_torch():
    code = f"import sys; [__import__(name) for name in {PLUGINS}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
