"""`ptqbench export RUN --cell ID --to DIR`: the quantized denoiser of a cell as files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ptqbench.api.formats import FORMATS
from ptqbench.api.progress import Progress
from ptqbench.api.result import Run
from ptqbench.commands.options import cache_option


@click.command("export", short_help="Write a cell's quantized denoiser to a folder.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--cell", required=True, metavar="ID", help='The cell, for example "gacq/W4A8/seed0".')
@click.option("--to", required=True, type=click.Path(path_type=Path), help="The folder that is written.")
@click.option("--format", "form", type=click.Choice([*FORMATS]), default="safetensors", show_default=True)
@click.option("--device", help='"cpu", "cuda", "mps" ...  [default: the run\'s]')
@cache_option
def command(run: Path, cell: str, to: Path, form: str, device: str | None, cache: Path) -> None:
    """Write the quantized denoiser of a cell of RUN, a folder that `ptqbench run` wrote.

    It is read from the cache, and computed as far as that lacks it. "safetensors": codes packed at their bits, scales and
    zero points, and a manifest, which `ptqbench.load` puts together again with the full-precision weights.
    """
    loaded = Run.load(run)
    from ptqbench.api.export import export
    from ptqbench.running.tasks import Task

    task = Task("cell", label=cell)
    with Progress() as progress:
        progress.announce([task])
        found = export(loaded, cell, to, format=form, cache=cache, device=device, progress=partial(progress.report, task))
    for note in found.report.notes:
        click.echo(f"note: {note}", err=True)
    sizes = {path.name: path.stat().st_size for path in sorted(to.iterdir())}
    files = ", ".join(f"{name} {size / 1024:.0f} KiB" for name, size in sizes.items())
    counted, rest = found.bit_ledger.quantized_bytes / 1024, found.bit_ledger.float_bytes / 1024
    click.echo(f"written to {to}: {files}")
    click.echo(f"the ledger counts {counted:.0f} KiB of codes and grids; {rest:.0f} KiB stay in floating point")
