"""`ptqbench study aa|ab`: what the statistics can see, by simulation; `frontier|fits`: what fits came to, from a run;
`oracle|spread`: what fixed weights could gain, and where the spread over seeds comes from, by fits of one row."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptqbench.commands.output import json_option, print_json, print_tables
from ptqbench.commands.study_row import oracle, spread

if TYPE_CHECKING:
    from ptqbench.results.tables import Table
    from ptqbench.studies.setting import Setting

seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the simulation.")
seeds_option = click.option(
    "--seeds", type=click.IntRange(1), default=2, show_default=True, help="Calibration seeds of each method."
)


@click.group("study")
def command() -> None:
    """Show what the statistics can and cannot see, what longer fits buy, what units came to, what fixed weights could gain, and
    where the spread over calibration seeds comes from."""


command.add_command(oracle)
command.add_command(spread)


@command.command("aa")
@click.option("--trials", type=click.IntRange(1), default=400, show_default=True, help="Comparisons to simulate.")
@click.option("--methods", type=click.IntRange(1), default=3, show_default=True, help="Copies beside the baseline.")
@click.option("--images", type=click.IntRange(20), default=256, show_default=True, help="Images of each cell.")
@seeds_option
@seed_option
@json_option
def aa(trials: int, methods: int, images: int, seeds: int, seed: int, as_json: bool) -> None:
    """How often are identical methods, under other noise and calibration seeds, declared different?"""
    from ptqbench.studies.aa import study
    from ptqbench.studies.setting import Setting
    from ptqbench.studies.tables import MOST, false_alarm_table

    setting = Setting(images=images, seeds=seeds)
    with _ready(trials) as tick:
        found = study(setting, methods, trials, seed, tick)
    held = all(x.declared <= MOST for x in found)
    _print(found, setting, false_alarm_table(found, setting), as_json, {"methods": methods, "seed": seed, "held": held})


@command.command("ab")
@click.option("--trials", type=click.IntRange(1), default=100, show_default=True, help="Comparisons for each size.")
@click.option(
    "--images",
    type=click.IntRange(20),
    multiple=True,
    default=(128, 512, 2048),
    show_default=True,
    help="Images of each cell; may be repeated.",
)
@seeds_option
@seed_option
@json_option
def ab(trials: int, images: tuple[int, ...], seeds: int, seed: int, as_json: bool) -> None:
    """How small an injected loss of quality is seen, by the paired and by an unpaired test?"""
    from ptqbench.studies.ab import study
    from ptqbench.studies.setting import Setting
    from ptqbench.studies.tables import sensitivity_table

    setting = Setting(seeds=seeds)
    with _ready(trials * len(images)) as tick:
        found = study(setting, images, trials, seed, tick)
    _print(found, setting, sensitivity_table(found, setting), as_json, {"trials": trials, "seed": seed})


@command.command("frontier")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--metric", default="latent-error", show_default=True, help="An error, lower is better.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw it as well (.png, .svg or .pdf).")
@json_option
def frontier(run: Path, metric: str, picture: Path | None, as_json: bool) -> None:
    """Error and spread over calibration seeds against fitting seconds, for the rows of RUN (recipes/fit_frontier.toml)."""
    from ptqbench.results.record import RunRecord
    from ptqbench.studies import frontier as study

    points = study.frontier(RunRecord.load(run), metric)
    if picture is not None:
        study.frontier_picture(points, metric, picture)
    if as_json:
        print_json({"metric": metric, "points": [dataclasses.asdict(point) for point in points]})
    else:
        print_tables([study.frontier_table(points, metric)])


@command.command("fits")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--row", "wanted", metavar="NAME", multiple=True, help="Only these methods; may be repeated.")
@json_option
def fits(run: Path, wanted: tuple[str, ...], as_json: bool) -> None:
    """What every unit of RUN came to: its loss rounded to nearest, soft and hardened, and how many roundings stayed open."""
    from ptqbench.results.fit_tables import chosen_rows, fit_tables
    from ptqbench.results.record import RunRecord

    rows = chosen_rows(RunRecord.load(run), wanted)
    if as_json:
        cells = [cell for row in rows for cell in row.cells]
        print_json({cell.id: [dataclasses.asdict(fit) for fit in cell.fits] for cell in cells})
    else:
        print_tables(fit_tables(rows))


@contextmanager
def _ready(steps: int) -> Iterator[Callable[[], None]]:
    """One thread, so that results do not depend on the machine's cores; a progress bar where someone watches."""
    from ptqbench.process.torch_settings import using_threads

    shown = click.progressbar(length=steps, label="simulating", file=sys.stderr, hidden=not sys.stderr.isatty())
    with using_threads(1), shown as bar:
        yield lambda: bar.update(1)


def _print(found: Sequence[Any], setting: Setting, table: Table, as_json: bool, extra: dict[str, Any]) -> None:
    if as_json:
        sizes = {k: v for k, v in dataclasses.asdict(setting).items() if k != "images" or "methods" in extra}
        print_json({**extra, "setting": sizes, "results": [dataclasses.asdict(x) for x in found]})
    else:
        print_tables([table])
