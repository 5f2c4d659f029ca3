"""The group `ptqbench digits`. Heavy imports stay inside the commands."""

from __future__ import annotations

import json
from pathlib import Path

import click

DENOISERS = ("denoiser", "conditional", "dit", "latent")


@click.group()
def digits() -> None:
    """Train and judge the shipped digits models."""


@digits.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/digits"),
    show_default=True,
    help="Folder for weights, configurations and the sample picture.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=None,
    help="Optimizer steps, for each network that is trained; default: as for the shipped weights.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of weights, batches, noise.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="CPU threads; another number rounds differently and so gives slightly different weights.",
)
@click.option(
    "--only",
    type=click.Choice(["all", *DENOISERS, "classifier"]),
    default="all",
    show_default=True,
    help="Which network to train.",
)
def train(out: Path, steps: int | None, seed: int, threads: int, only: str) -> None:
    """Train the denoisers, most of them told which digit to draw, and the classifier on the digits of scikit-learn."""
    from ptqbench_digits.train import run

    run(out, steps, seed, threads, only)


@digits.command()
@click.option("--folder", default="", help="Folder that `train` wrote; default: the shipped weights.")
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="DDIM steps.")
@click.option("--count", type=click.IntRange(min=100), default=1000, show_default=True, help="Images to sample.")
@click.option("--model", type=click.Choice(DENOISERS), default="denoiser", show_default=True, help="Which denoiser to judge.")
@click.option("--guidance", type=click.FloatRange(min=0), help="Scale of guidance, for one that is told which digit to draw.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads.")
def assess(folder: str, steps: int, count: int, model: str, guidance: float | None, threads: int) -> None:
    """Print the model card's figures as JSON: loss, accuracy, and how close samples are to the data."""
    from ptqbench.process.torch_settings import using_threads
    from ptqbench_digits.assess import figures

    with using_threads(threads):
        click.echo(json.dumps(figures(model, folder, steps, count, guidance), indent=2))
