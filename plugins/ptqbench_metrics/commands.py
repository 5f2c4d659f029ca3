"""The group `ptqbench bench`: what measuring costs on this machine."""

from __future__ import annotations

import click

MOMENTS = "moments"
KINDS = (MOMENTS, "kid", "precision-recall")


def _dims(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r} is no list of widths such as 64,2048")
    return [int(part) for part in parts]


@click.group()
def bench() -> None:
    """Measure the time and memory of parts of a comparison."""


def _kinds(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",")]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise click.BadParameter(f"{', '.join(unknown)}: allowed are {', '.join(KINDS)}")
    return kinds


@bench.command()
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
    import torch

    from ptqbench_metrics.bench import pairwise, progress

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        click.echo(f"{'what':<16} {'width':>6} {'images':>8} {'seconds':>8} {'images/s':>9} {'peak MiB':>9}")
        for kind in what:
            for width in dims:
                for row in progress(images, width) if kind == MOMENTS else pairwise(kind, images, width):
                    figures = f"{row.seconds:>8.2f} {row.images / row.seconds:>9.0f} {row.peak_mib:>9.0f}"
                    click.echo(f"{kind:<16} {width:>6} {row.images:>8} {figures}")
    finally:
        torch.set_num_threads(before)
