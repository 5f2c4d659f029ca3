"""Executed times of a cell of a finished run, which become part of its record."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ptqbench.api.cell import open_cell
from ptqbench.api.component import chosen_component
from ptqbench.api.recipe import Overrides, words_of
from ptqbench.api.record import amend
from ptqbench.api.result import Run
from ptqbench.boundary.build import build
from ptqbench.deployment.subject import deployable
from ptqbench.deployment.timing import time_cell
from ptqbench.errors import UserError
from ptqbench.failures import blamed
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
    note: Callable[[str], object] = lambda _: None,
) -> Executed:
    """Execute a sampling step of a cell in an engine, by turns with full precision in the same one (see `time_cell`).

    `threads` are all cores if left out. `set` has options of the engine, `plugins` are single-file plugins to look in as well.
    The result is put into the run's record, under the engine with its options, and written where the run has a folder. `note`
    is told where what is timed is not the run's bit for bit.

    Raises `UserError` as `Run.quantized` does, for an engine that is none or lacks a package, for what it cannot execute, and
    for a cell of an accelerator that the CPU does not make again bit for bit.
    """
    chosen = chosen_component("engine", engine, set, plugins)
    given = run if isinstance(run, Run) else Run.load(run)
    opened = open_cell(given.record, given.experiment, cell, cache or given.cache, "cpu", progress)
    made_on = str(given.record.environment["device"])
    if made_on != "cpu" and not opened.as_run:
        raise UserError(
            f"{cell} was quantized on {made_on}, and what the CPU makes of it, where engines run, is not the same bit for bit",
            "run the recipe with --device cpu, which reads from the cache what was made now, and time that run's cell",
        )
    for said in opened.notes:
        note(said)
    used = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with blamed(f"the times of {cell}"):
        with arithmetic(opened.ctx.threads):  # results that are cached are the run's, with its number of threads
            program: Engine = build(chosen)
            found_denoiser = opened.quantized
            subject = deployable(opened.ctx, found_denoiser.quantized, found_denoiser.save, opened.seed)
        with arithmetic(used):
            found = time_cell(
                opened.ctx, opened.predictor, subject, program, batch=batch, repeats=repeats, threads=used, tell=progress
            )
    name = " ".join((engine, *words_of(set)))
    amend(given, cell, lambda kept: kept.executed.update({name: found}))
    return found
