"""New plugins: a role's template under another name, as one file with its test or as a distribution."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ptqbench.errors import UserError
from ptqbench.kit.split import split
from ptqbench.plugin.hookspecs import ROLES

TEMPLATES = Path(__file__).parent / "templates"

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

USES: Mapping[str, str] = {
    "weight-quantizer": '[methods.trial]\nextends = "q-diffusion"\nweights = { quantizer = "example" }',
    "activation-quantizer": '[methods.trial]\nextends = "q-diffusion"\nactivations = { quantizer = "example" }',
    "range": '[methods.trial]\nextends = "q-diffusion"\nactivations = { range = "example" }',
    "loss": '[methods.trial]\nextends = "q-diffusion"\nlosses = ["example"]',
    "pass": '[methods.trial]\nextends = "q-diffusion"\npasses = ["example"]',
    "sampler-hook": '[methods.trial]\nextends = "q-diffusion"\nhooks = ["example"]',
    "network-quantizer": '[methods.trial]\nnetwork = "example"',
    "solver": '[sampling]\nsolver = "example"',
    "model": '[model]\nuse = "example"',
    "features": '[evaluation]\nfeatures = "example"',
    "metric": '[evaluation]\nmetrics = ["example"]',
    "reporter": '[report]\nformats = ["example"]',
    "engine": "# no recipe's business: ptqbench time RUN --cell ID --engine example",
    "executor": "# no recipe's business: ptqbench run RECIPE --executor example",
    "exporter": "# no recipe's business: ptqbench export RUN --cell ID --to DIR --format example",
}
"""What a recipe says to use a component; roles that are not here are keys of a method."""


def use_of(role: str) -> str:
    """The lines of a recipe that use the component "example" of this role."""
    return USES.get(role, f'[methods.trial]\nextends = "q-diffusion"\n{role} = "example"')


def check_name(name: str) -> None:
    """Raises `UserError` for what cannot be a plugin's name and a package's."""
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name for a plugin", "lower-case letters and digits, in words joined by -: late-steps")


def plugin_files(name: str, role: str, *, single: bool) -> dict[str, str]:
    """The files of a new plugin by their path: one file and its test, or a distribution. Raises `UserError` for the name."""
    check_name(name)
    assert role in {known.name for known in ROLES}
    source = (TEMPLATES / f"{role}.py").read_text(encoding="utf-8")
    test = (TEMPLATES / "package" / "test_example.py").read_text(encoding="utf-8").replace("ROLE", role)
    module = name.replace("-", "_")
    if single:
        files = {f"{module}.py": source, f"test_{module}.py": _of_file(test)}
    else:
        init, component = split(source, "ptqbench_example")
        readme, project = ((TEMPLATES / "package" / f).read_text(encoding="utf-8") for f in ("README.md", "pyproject.toml"))
        files = {
            "pyproject.toml": project,
            "README.md": readme.replace("USE", use_of(role)),
            f"ptqbench_{module}/__init__.py": init,
            f"ptqbench_{module}/component.py": component,
            f"tests/test_{module}.py": test,
        }
    return {path: _named(text, name) for path, text in files.items()}


def write(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Write files below a folder; returns their paths.

    Raises `UserError` for one that is there already, and writes none, and for a folder that cannot be written to.
    """
    paths = {folder / path: text for path, text in files.items()}
    taken = [path for path in paths if path.exists()]
    if taken:
        raise UserError(f"{taken[0]} is there already", "choose another name, or another folder with --out")
    try:
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written to: {error.strerror}", "name another folder with --out") from error
    return list(paths)


def _of_file(test: str) -> str:
    """The test of a plugin that is a file beside it."""
    beside = 'SOURCE = Path(__file__).with_name("ptqbench_example.py")'
    manager = "    manager = PluginManager()\n    manager.load_file(SOURCE)\n    found = manager.find("
    return (
        test.replace('SOURCE = "ptqbench_example"', beside.replace("ptqbench_example", "example"))
        .replace("    found = PluginManager().find(", manager)
        .replace("import pytest\n", "from pathlib import Path\n\nimport pytest\n", 1)
    )


def _named(text: str, name: str) -> str:
    """The text of a template with the plugin's own names for the example's."""
    module, title = name.replace("-", "_"), "".join(word.capitalize() for word in name.split("-"))
    text = text.replace("ptqbench_example", f"ptqbench_{module}").replace("example.py", f"{module}.py")
    return text.replace("Example", title).replace("example", name)
