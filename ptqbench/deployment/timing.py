"""Executed times: a whole sampling step in full precision and quantized, in one engine, by turns."""

from __future__ import annotations

import ctypes
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ptqbench.deployment.agreement import Agreement
from ptqbench.errors import UserError
from ptqbench.results.record import Executed
from ptqbench.roles.engine import Engine, Program
from ptqbench.roles.exporter import Deployable, Inputs
from ptqbench.roles.model import Conditions
from ptqbench.sampling.rng import NoiseSource
from ptqbench.stage.context import RunContext
from ptqbench.stage.machine import processor
from ptqbench.stage.memory import watching_memory
from ptqbench.stage.prediction import for_solver
from ptqbench.stage.predictor import Predictor
from ptqbench.stage.stages import Tell

RESAMPLES = 2000
"""Bootstrap samples of the pairs of times."""

MOST_DB = 999.0
"""What stands in a record, either way, for an agreement that no number says."""


@dataclass(frozen=True)
class ExecutedPredictor(Predictor):
    """A predictor whose evaluations are a program's."""

    program: Program = field(kw_only=True)

    def evaluate(self, x: Tensor, step: Tensor, cond: Conditions, t: Tensor | None = None) -> Tensor:
        """As `Predictor.evaluate`."""
        label = self.schedule.timesteps[step] if t is None else t
        output = self.program.run(Inputs(x, label, step, cond))
        return for_solver(self.model, output, x, self.alpha_at(step, label))


@dataclass(frozen=True)
class Loaded:
    """A program with what it took: bytes of its files, and MiB above what the process held before it was loaded and run."""

    program: Program
    bytes: int
    peak_mib: float


def time_cell(
    ctx: RunContext,
    predictor: Predictor,
    cell: Deployable,
    engine: Engine,
    *,
    batch: int,
    repeats: int,
    threads: int,
    tell: Tell,
) -> Executed:
    """One sampling step of `batch` images, by turns in full precision and quantized, `repeats` times each.

    A step is every branch's evaluation, their combination, the hooks of the quantized cell's `predictor` and the solver's
    update; the steps that are timed are spread over the schedule. The interval of the ratio of medians is a bootstrap's over
    the pairs of times. Raises `UserError` where the model is on an accelerator, or the engine cannot execute the cell.
    """
    if ctx.device.type != "cpu":
        raise UserError(f"the run's model is on {ctx.device}, and engines are timed on the CPU", "name --device cpu")
    with tempfile.TemporaryDirectory() as folder:
        loaded = []
        for i, quantized in enumerate((False, True)):
            tell(f"{'quantized' if quantized else 'full precision'} for {engine.version}", i / 4)
            loaded.append(_load(cell, engine, quantized, Path(folder) / str(i), threads))
        full, ours = loaded
        agreement = Agreement.of(_by_steps(ours.program, cell.held_out), cell.simulated(cell.held_out).cpu())
        steps = [_step(ctx, predictor, full.program, batch, ()), _step(ctx, predictor, ours.program, batch, predictor.hooks)]
        seconds = _by_turns(steps, ctx.schedule.steps, repeats, tell)
    (whole, low_whole, high_whole), (quick, low_quick, high_quick), (ratio, low, high) = _figures(*seconds)
    return Executed(
        version=engine.version,
        cpu=processor(),
        batch=batch,
        threads=threads,
        repeats=repeats,
        full_precision_seconds=[whole, low_whole, high_whole],
        quantized_seconds=[quick, low_quick, high_quick],
        ratio=[ratio, low, high],
        integer_share=ours.program.integer_share,
        snr=max(-MOST_DB, min(agreement.snr, MOST_DB)),
        peak_mib=[full.peak_mib, ours.peak_mib],
        file_bytes=[full.bytes, ours.bytes],
    )


def _load(cell: Deployable, engine: Engine, quantized: bool, folder: Path, threads: int) -> Loaded:
    folder.mkdir()
    engine.prepare(cell, quantized, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    gc.collect()
    with suppress(OSError, AttributeError):  # not everybody's C library; memory that it keeps would hide what is taken
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _resident_mib()
    with watching_memory() as peak:
        program = engine.load(cell, quantized, folder, threads)
        first = cell.held_out.rows(slice(0, 1))
        program.run(first)
    return Loaded(program, size, max(0.0, peak.seen - before))


def _resident_mib() -> float:
    with watching_memory() as peak:
        return peak.look()


def _by_steps(program: Program, given: Inputs) -> Tensor:
    """A program's output for rows at any steps."""
    found: list[Tensor | None] = [None] * len(given)
    for step in given.step.unique().tolist():
        place = (given.step == step).nonzero().flatten()
        for i, row in zip(place.tolist(), program.run(given.rows(place)), strict=True):
            found[i] = row
    return torch.stack([row for row in found if row is not None])


def _step(
    ctx: RunContext, predictor: Predictor, program: Program, batch: int, hooks: Sequence[object]
) -> Callable[[int], None]:
    """A function that takes one sampling step of a batch, of full precision without hooks."""
    model, ids = ctx.model, range(batch)
    noise = NoiseSource(ctx.experiment.sampling.seed, "images", ids, model.shape)
    x, fresh, conditions = noise.draw(), noise.draw(), model.conditions_of(ids, ctx.device, "images")
    executed = ExecutedPredictor(model, predictor.denoiser, ctx.schedule, None, tuple(hooks), program=program)  # type: ignore[arg-type]

    @torch.inference_mode()
    def step(s: int) -> None:
        found = executed(x, torch.full((batch,), s, dtype=torch.int64, device="cpu"), conditions)
        planned = executed.noise(s)
        ctx.schedule.start()(s, x, found.eps, fresh if planned.sigma > 0 else None, planned)

    return step


def _by_turns(steps: Sequence[Callable[[int], None]], length: int, repeats: int, tell: Tell) -> tuple[list[float], list[float]]:
    """Seconds of either step, (repeats,) each: by turns, and first the one, then the other."""
    timed = [i * length // repeats for i in range(repeats)]
    for s in dict.fromkeys(timed):  # what only a first call does: each range of steps may have a graph of its own
        for step in steps:
            step(s)
    seconds: tuple[list[float], list[float]] = ([], [])
    for i, s in enumerate(timed):
        tell("sampling steps by turns", 0.5 + i / repeats / 2)
        for which in (0, 1) if i % 2 else (1, 0):
            start = time.perf_counter()
            steps[which](s)
            seconds[which].append(time.perf_counter() - start)
    return seconds


def _figures(full: Sequence[float], ours: Sequence[float]) -> list[tuple[float, float, float]]:
    """Medians of both and their ratio (above 1 where the second is faster), each with the ends of its 95 % interval."""
    a, b = np.asarray(full), np.asarray(ours)
    place = np.random.RandomState(0).randint(len(a), size=(RESAMPLES, len(a)))
    drawn_a, drawn_b = np.median(a[place], axis=1), np.median(b[place], axis=1)
    middles = (np.median(a), np.median(b), np.median(a) / np.median(b))
    ends = (np.quantile(x, (0.025, 0.975)) for x in (drawn_a, drawn_b, drawn_a / drawn_b))
    return [(float(middle), float(low), float(high)) for middle, (low, high) in zip(middles, ends, strict=True)]
