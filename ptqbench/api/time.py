"""Executed times of a cell of a finished run, which become part of its record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ptqbench.api.cell import open_cell
from ptqbench.api.component import chosen_component
from ptqbench.api.recipe import Overrides
from ptqbench.api.result import Run
from ptqbench.api.run import RESULTS
from ptqbench.boundary.build import build
from ptqbench.deployment.subject import deployable
from ptqbench.deployment.timing import time_cell
from ptqbench.failures import blamed
from ptqbench.recipe.select import find_cell
from ptqbench.results.record import Executed
from ptqbench.roles.engine import Engine
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.stages import Tell

REPEATS = 30


def time(
    run: Run | str | Path,
    cell: str,
    *,
    engine: str = "onnxruntime",
    batch: int = 16,
    threads: int | None = None,
    repeats: int = REPEATS,
    set: Overrides = (),
    cache: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    progress: Tell = lambda *_: None,
) -> Executed:
    """Execute a sampling step of a cell in an engine, by turns with full precision in the same one (see `time_cell`).

    `threads` are all cores if left out. `set` has options of the engine, `plugins` are single-file plugins to look in as well.
    The result is put into the run's record, and written where the run has a folder.

    Raises `UserError` as `Run.quantized` does, for an engine that is none or lacks a package, and for what it cannot execute.
    """
    chosen = chosen_component("engine", engine, set, plugins)
    given = run if isinstance(run, Run) else Run.load(run)
    opened = open_cell(given.record, given.experiment, cell, cache or given.cache, "cpu", progress)
    used = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with arithmetic(used), blamed(f"the times of {cell}"):
        program: Engine = build(chosen)
        subject = deployable(opened.ctx, opened.quantized.quantized, opened.quantized.save)
        found = time_cell(
            opened.ctx, opened.predictor, subject, program, batch=batch, repeats=repeats, threads=used, tell=progress
        )
    find_cell(given.record.cells, cell, "run").executed[engine] = found
    if given.folder is not None:
        path = given.folder / RESULTS if given.folder.is_dir() else given.folder
        path.write_text(given.record.to_json(), encoding="utf-8")
    return found
