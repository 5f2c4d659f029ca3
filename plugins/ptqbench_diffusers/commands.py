"""The group `ptqbench diffusers`. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path

import click

File = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def diffusers() -> None:
    """Make folders of pipelines that the model `diffusers` reads."""


@diffusers.command()
@click.argument("checkpoint", type=File)
@click.option("--config", type=File, required=True, help="CompVis' YAML file of the model's architecture.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@click.option("--trust", is_flag=True, help="Read a pickle file (.ckpt); tensors alone are taken from it.")
def convert(checkpoint: Path, config: Path, out: Path, trust: bool) -> None:
    """Convert a checkpoint of CompVis' latent diffusion, unconditional or told a class, such as LSUN-Bedrooms or cin256-v2."""
    from ptqbench_diffusers.convert import convert as run

    run(checkpoint, config, out, trust=trust)
    click.echo(f"written to {out}: set model.path to it")
