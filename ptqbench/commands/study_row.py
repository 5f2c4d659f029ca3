"""`ptqbench study oracle|spread`: studies that fit one row of a recipe again and again."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ptqbench.commands.options import (
    cache_option,
    device_option,
    experiment_argument,
    override_option,
    profile_option,
    threads_option,
)
from ptqbench.commands.output import json_option, print_json, print_tables

OPTIONS = (
    experiment_argument,
    click.option("--method", required=True, help="The row that is fitted."),
    click.option("--bits", required=True, help="For example W4A32."),
    click.option("--metric", default="latent-error", show_default=True, help="An error of predictions, lower is better."),
    profile_option,
    override_option,
    cache_option,
    device_option,
    threads_option,
    json_option,
)
"""Which row, which metric, and how to run."""


def _of_a_row(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command("oracle")
@_of_a_row
@click.option("--groups", type=click.IntRange(2), default=4, show_default=True, help="Groups of sampling steps.")
@click.option("--fits", type=click.IntRange(2), default=16, show_default=True, help="Weightings to try.")
@click.option("--tuning", type=int, multiple=True, default=(100, 101), show_default=True, help="Seeds to search on.")
@click.option("--held-out", type=int, multiple=True, default=(200, 201, 202), show_default=True, help="Seeds to judge on.")
def oracle(
    groups: int, fits: int, tuning: tuple[int, ...], held_out: tuple[int, ...], as_json: bool, recipe: Path, **given: Any
) -> None:
    """The best fixed weight for each group of sampling steps for a row of RECIPE, by direct search.

    Equal weights and the best ones that were found are then compared on calibration seeds and probes that the search did not
    see. What weights that learn could gain more has to come from within a group, or change during a fit. Finished fits are
    kept in the cache.
    """
    from ptqbench.api.oracle import find_oracle
    from ptqbench.studies.oracle import oracle_tables

    with _watched() as tell:
        found = find_oracle(recipe, groups=groups, fits=fits, tuning=tuning, held_out=held_out, tell=tell, **_how(**given))
    if as_json:
        print_json({**dataclasses.asdict(found), "gain": found.gain, "visible": found.visible, "sentence": found.sentence})
    else:
        print_tables(oracle_tables(found))


@click.command("spread")
@_of_a_row
@click.option(
    "--seed", "seeds", type=int, multiple=True, default=(100, 101, 102, 103), show_default=True, help="Calibration seeds."
)
def spread(seeds: tuple[int, ...], as_json: bool, recipe: Path, **given: Any) -> None:
    """Where the spread over calibration seeds of a row of RECIPE comes from: one thing at a time is changed.

    After the first seed's fit come fits with other last bits only, with other mini-batches of the same samples, with other
    samples, and with both. Finished fits are kept in the cache.
    """
    from ptqbench.api.spread import find_sources
    from ptqbench.studies.spread import spread_table

    with _watched() as tell:
        found = find_sources(recipe, seeds=seeds, tell=tell, **_how(**given))
    if as_json:
        arms = [{**dataclasses.asdict(arm), "spread": arm.spread, "interval": arm.interval} for arm in found.arms]
        print_json({**dataclasses.asdict(found), "arms": arms, "sentence": found.sentence})
    else:
        print_tables([spread_table(found)])


def _how(method: str, bits: str, metric: str, cache: Path, device: str, threads: int | None, **given: Any) -> dict[str, Any]:
    """What both studies are given of the options in common."""
    from ptqbench.api.row import Row
    from ptqbench.api.settings import settings_for

    return {"row": Row(method, bits, metric), "settings": settings_for(cache, device, 1, threads), **given}


@contextmanager
def _watched() -> Iterator[Callable[[str], None]]:
    """A line that tells what goes on, where someone watches."""
    watched = sys.stderr.isatty()
    yield lambda what: click.echo(f"\r\x1b[K{what}", err=True, nl=False) if watched else None
    if watched:
        click.echo(err=True)
