"""The group `ptqbench bench`: what measuring costs on this machine."""

from __future__ import annotations

import click


def _dims(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r} is no list of widths such as 64,2048")
    return [int(part) for part in parts]


@click.group()
def bench() -> None:
    """Measure the time and memory of parts of a comparison."""


@bench.command()
@click.option("--images", type=click.IntRange(min=8), default=50_000, show_default=True, help="Images to stream.")
@click.option("--dims", callback=_dims, default="64,2048", show_default=True, help="Widths of the features.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
def features(images: int, dims: list[int], threads: int) -> None:
    """Stream random 32x32 images through extractors and into mean and covariance; print time and peak memory.

    Extractors are random projections of the given widths, so that the figures are those of the streaming itself. A row is
    printed at each quarter: time grows with the number of images, memory does not.
    """
    import torch

    from ptqbench_metrics.bench import progress

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        click.echo(f"{'width':>6} {'images':>8} {'seconds':>8} {'images/s':>9} {'peak MiB':>9}")
        for width in dims:
            for row in progress(images, width):
                rate = row.images / row.seconds
                click.echo(f"{width:>6} {row.images:>8} {row.seconds:>8.2f} {rate:>9.0f} {row.peak_mib:>9.0f}")
    finally:
        torch.set_num_threads(before)
