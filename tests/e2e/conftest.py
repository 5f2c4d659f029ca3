"""One uninterrupted run with one process, which other runs are compared with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2ekit import LATE, call, run_args, write_recipe


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    folder: Path
    recipe: Path
    process: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The toy comparison, with weights of one, and with a weighter from a file beside the recipe."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "late.py").write_text(LATE)
    third = '[methods.third]\nextends = "late"\nweighter = "late-steps"\n'
    recipe = write_recipe(folder, "late.py", more=third)
    return Finished(folder, recipe, call(*run_args(recipe, folder, "--json")))
