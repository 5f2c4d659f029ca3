"""`ptqbench bench features|fit`: what measuring and fitting cost on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ptqbench.commands.options import device_option
from ptqbench.commands.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from ptqbench.benchmarks.fit import Figure

MOMENTS = "moments"
KINDS = (MOMENTS, "kid", "precision-recall")


def _dims(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r} is no list of widths such as 64,2048")
    return [int(part) for part in parts]


@click.group("bench", short_help="Measure what features and fits cost.")
def command() -> None:
    """Measure the time and memory of parts of a comparison."""


def _kinds(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",")]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise click.BadParameter(f"{', '.join(unknown)}: allowed are {', '.join(KINDS)}")
    return kinds


@command.command()
@click.option("--images", type=click.IntRange(min=16), default=50_000, show_default=True, help="Images of each set.")
@click.option("--dims", callback=_dims, default="64,2048", show_default=True, help="Widths of the features.")
@click.option("--what", callback=_kinds, default=MOMENTS, show_default=True, help=f"Any of {', '.join(KINDS)}.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
def features(images: int, dims: list[int], what: list[str], threads: int) -> None:
    """Measure large sets in parts; print time and peak memory at a quarter, a half, three quarters and all of the images.

    `moments` streams random 32x32 images through extractors (random projections, so that the figures are those of the
    streaming itself) into mean and covariance: its time grows with the number of images. `kid` and `precision-recall`
    compare all pairs of two sets of random features: their time grows with the square. Memory does not grow with the
    images, but for some numbers for each image.
    """
    from ptqbench.benchmarks.features import pairwise, progress
    from ptqbench.process.torch_settings import using_threads

    with using_threads(threads):
        click.echo(f"{'what':<16} {'width':>6} {'images':>8} {'seconds':>8} {'images/s':>9} {'peak MiB':>9}")
        for kind in what:
            for width in dims:
                for row in progress(images, width) if kind == MOMENTS else pairwise(kind, images, width):
                    figures = f"{row.seconds:>8.2f} {row.images / row.seconds:>9.0f} {row.peak_mib:>9.0f}"
                    click.echo(f"{kind:<16} {width:>6} {row.images:>8} {figures}")


@command.command()
@click.option("--rounds", type=click.IntRange(min=2), default=15, show_default=True, help="Repetitions of each measurement.")
@device_option
@json_option
def fit(rounds: int, device: str, as_json: bool) -> None:
    """Time what fits are made of, on a network of its own: iterations, weights of samples, ranges, recordings, sampling.

    Ratios are medians over rounds in which both sides take turns, so that a busy machine disturbs them little; on a CPU seconds
    are those of one thread's processor. `weights alone` is forward, backward and Adam on the unit's weights; `written out in
    torch` has the same rounding variables and regulariser, differentiated by autograd. What is done once is compared with one
    pass of all samples through the network.
    """
    from ptqbench.benchmarks.fit import figures
    from ptqbench.process.torch_settings import using_threads
    from ptqbench.stage.context import pick_device

    with using_threads(1):
        found = list(figures(pick_device(device), rounds))
    if as_json:
        print_json([dataclasses.asdict(figure) for figure in found])
    else:
        headings = ("part", "what", "ms", "ratio", "beside")
        print_table(headings, _rows(found), keep=2, right=("ms", "ratio"))


def _rows(found: Sequence[Figure]) -> list[tuple[str, ...]]:
    return [(x.part, x.what, f"{1000 * x.seconds:.2f}", f"{x.ratio:.2f}", x.beside) for x in found]
