"""Cells of a finished run once more, from the recipe that its record has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ptqbench.api.recipe import recorded_recipe
from ptqbench.api.run import run
from ptqbench.gate.confirm import Rerun
from ptqbench.gate.snapshot import Snapshot, snapshot
from ptqbench.results.record import RunRecord


def rerun_of(record: RunRecord, cache: Path | None, *, progress: bool = False) -> Rerun:
    """A function that runs cells of a record again, on the kind of device that the record names."""

    def rerun(cells: Sequence[str], seeds: Sequence[int]) -> Snapshot:
        experiment = recorded_recipe(record, f"sweep.seeds={list(seeds)}", f"sweep.only={json.dumps(list(cells))}")
        device, threads = str(record.environment.get("device", "auto")), record.environment.get("threads")
        found = run(experiment, cache=cache, device=device, workers=None, threads=threads, progress=progress)
        return snapshot(found.record)

    return rerun
