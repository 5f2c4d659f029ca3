"""Exporters, engines and libraries: a tiny network as files, as a program, and quantized as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file

from ptqbench.deployment.agreement import Agreement
from ptqbench.deployment.subject import deployable
from ptqbench.errors import CellFailedError
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.roles.exporter import Deployable, Inputs
from ptqbench.running.bridge import bridged, library_versions
from ptqbench.running.cell import cell_quantizer
from ptqbench.stage.cache import Costs
from ptqbench.testing.trial import Trial
from ptqbench.testing.world import CLOSED, experiment, world


@contextmanager
def _leaving(trial: Trial) -> Iterator[Deployable]:
    """A tiny network, rounded to nearest."""
    made = experiment(trial.manager, CLOSED, "plain")
    (cell,) = [cell for cell in made.cells if cell.method is not None]
    with world(made) as ctx:
        quantizer: MethodQuantizer = cell_quantizer(ctx, cell, Costs(), lambda *_: None)
        q, _ = quantizer.run()

        def save(folder: Path) -> None:
            save_file({name: value.contiguous() for name, value in q.export().items()}, folder / "tensors.safetensors")

        yield deployable(ctx, q, save, cell.seed)


def exports(trial: Trial) -> None:
    """Files, the same each time, and a denoiser that computes afterwards what it did before."""
    with _leaving(trial) as cell:
        before = cell.simulated(cell.held_out)
        found = []
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                trial.build().write(cell, Path(folder))
                found.append({path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()})
        if found[0] != found[1]:
            raise trial.fault(
                "writes other files each time", "leave out times and names of machines, and sort what has no order"
            )
        if not cell.simulated(cell.held_out).equal(before):
            raise trial.fault("changed the denoiser that it wrote", "work on a copy of it")


def programs(trial: Trial) -> None:
    """Full precision and the quantized network for every batch size, the quantized one within 20 dB of the simulation."""
    with _leaving(trial) as cell, tempfile.TemporaryDirectory() as folder:
        for quantized in (False, True):
            engine, place = trial.build(), Path(folder) / str(quantized)
            place.mkdir()
            engine.prepare(cell, quantized, place)
            program = engine.load(cell, quantized, place, 1)
            for rows in (1, 3):
                given = cell.held_out.rows(slice(0, rows))
                given = Inputs(given.x, given.t[:1].expand(rows), given.step[:1].expand(rows), given.cond)
                wanted = cell.simulated(given) if quantized else cell.in_full_precision(given)
                agreement = Agreement.of(program.run(given), wanted)
                if not agreement.snr >= 20:
                    words = "the simulation" if quantized else "full precision"
                    raise trial.fault(f"computes something else than {words}: {agreement}", "look at grids and zero points")


def networks(trial: Trial) -> None:
    """A module that predicts the same each time, and in which the layers that it names have grids."""
    try:
        library_versions(trial.bound)
    except CellFailedError:
        return  # what is not installed cannot be tried, and costs its row a sentence
    tried = 0
    for bits in ("W8A8", "W4A32"):
        made = experiment(trial.manager, CLOSED, "unet", bits)
        (cell,) = [cell for cell in made.cells if cell.method is not None]
        with world(made) as ctx:
            assert cell.method is not None
            try:
                first, second = (bridged(ctx, cell.method, 0, trial.bound, Costs()) for _ in range(2))
            except CellFailedError:
                continue
        tried += 1
        if first.digest != second.digest:
            raise trial.fault("quantizes otherwise each time", "draw from a generator of its own with a fixed seed")
    if not tried:
        raise trial.fault("quantizes neither at W8A8 nor weights alone at W4", "one of them at least")
