"""Running some cells of a finished run again under other calibration seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ptqbench.commands.options import settings_for
from ptqbench.commands.run import execute
from ptqbench.errors import UserError
from ptqbench.gate.confirm import Rerun
from ptqbench.gate.snapshot import Snapshot, snapshot
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.load import load_experiment
from ptqbench.results.record import RunRecord


def rerun_of(record: RunRecord, cache: Path) -> Rerun:
    """A function that runs cells of the record's recipe again, on the kind of device that the record names.

    Raises `UserError` when the recipe is not where it was.
    """
    recipe = Path(record.invocation[0]) if record.invocation else Path(f"{record.name}.toml")
    if not recipe.is_file():
        raise UserError(f"--confirm needs the recipe, and {recipe} is not there", "start in the folder where `run` was started")
    words = record.invocation
    given = [value for key, value in pairwise(words) if key == "--set"]
    environment = record.environment

    def rerun(cells: Sequence[str], seeds: Sequence[int]) -> Snapshot:
        overrides = [*given, f"sweep.seeds={list(seeds)}", f"sweep.only={json.dumps(list(cells))}"]
        experiment = load_experiment(recipe, overrides=overrides, manager=PluginManager())
        settings = settings_for(cache, str(environment.get("device", "auto")), threads=environment.get("threads"))
        return snapshot(execute(experiment, settings))

    return rerun
