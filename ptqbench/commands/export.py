"""`ptqbench export RUN --cell ID --to DIR`: a cell's quantized denoiser as files."""

from __future__ import annotations

from pathlib import Path

import click

from ptqbench.api.result import Run
from ptqbench.commands.options import cache_option
from ptqbench.commands.output import plugin_option, print_wrapped, tell_notes, work_on_cell


@click.command("export", short_help="Write a cell's quantized denoiser to a folder.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--cell", required=True, metavar="ID", help='The cell, for example "gacq/W4A8/seed0".')
@click.option("--to", required=True, type=click.Path(path_type=Path), help="The folder that is written.")
@click.option("--format", "form", default="safetensors", show_default=True, help="An exporter: safetensors, onnx ...")
@click.option("--device", help='"cpu", "cuda", "mps" ...  [default: the run\'s]')
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="An option of the exporter; may be repeated.")
@cache_option
@plugin_option
def command(
    run: Path,
    cell: str,
    to: Path,
    form: str,
    options: tuple[str, ...],
    device: str | None,
    cache: Path,
    plugins: tuple[Path, ...],
) -> None:
    """Write the quantized denoiser of a cell of RUN, a folder that `ptqbench run` wrote.

    It is read from the cache, and computed as far as that lacks it. "safetensors": codes packed at their bits, scales and
    zero points, and a manifest, which `ptqbench.load` puts together again with the full-precision weights. "onnx": a graph for
    other programs, checked against the simulation.
    """
    loaded = Run.load(run)
    from ptqbench.api.export import export

    with work_on_cell(cell) as (tell, _):
        found = export(loaded, cell, to, format=form, set=options, cache=cache, device=device, plugins=plugins, progress=tell)
    tell_notes(found.quantized.report.notes)
    sizes = {path.name: path.stat().st_size for path in sorted(to.iterdir()) if path.is_file()}
    files = ", ".join(f"{name} {size / 1024:.0f} KiB" for name, size in sizes.items())
    ledger = found.quantized.bit_ledger
    click.echo(f"written to {to}: {files}, {sum(sizes.values()) / 1024:.0f} KiB in all")
    click.echo(
        f"the ledger counts {ledger.quantized_bytes / 1024:.0f} KiB of codes and grids; "
        f"{ledger.float_bytes / 1024:.0f} KiB stay in floating point"
    )
    for note in found.notes:
        print_wrapped(note, indent="")
