"""What `ptqbench digits train` does: train, measure, write bundles and a sample picture."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from ptqbench.process.torch_settings import using_threads
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.autoencoder import reconstruction_error, train_autoencoder
from ptqbench_digits.classifier import CLASSIFIER_CONFIG, ClassifierSettings, held_out_accuracy, train_classifier
from ptqbench_digits.data import CLASSES, to_bytes
from ptqbench_digits.diffusion import (
    ConditionalSettings,
    DenoiserSettings,
    LatentSettings,
    TransformerSettings,
    card_loss,
    train_denoiser,
)
from ptqbench_digits.networks import SCHEDULE, LatentDigits, alphas_cumprod
from ptqbench_digits.sampling import ddim, save_grid
from ptqbench_digits.source import SOURCES

SETTINGS: dict[str, type[DenoiserSettings]] = {
    bundle.DENOISER: DenoiserSettings,
    bundle.CONDITIONAL: ConditionalSettings,
    bundle.TRANSFORMER: TransformerSettings,
    bundle.LATENT: LatentSettings,
}
PICTURES = {name: f"{name}.png" for name in SETTINGS} | {bundle.DENOISER: "samples.png"}
PICTURE_STEPS = 20
PICTURE_GUIDANCE = 2.0


def run(out: Path, steps: int | None, seed: int, threads: int, only: str) -> None:
    """Train what `only` names (a bundle, or "all") into the folder `out`, with progress on stderr."""
    changes: dict[str, Any] = {"seed": seed} if steps is None else {"seed": seed, "steps": steps}
    console = Console(stderr=True)
    with using_threads(threads):
        if only in ("all", bundle.CLASSIFIER):
            _classifier(out, ClassifierSettings(**changes), threads, console)
        for name, settings in SETTINGS.items():
            if only in ("all", name):
                fewer = {"autoencoder_steps": steps} if settings is LatentSettings and steps is not None else {}
                _denoiser(name, out, settings(**changes, **fewer), threads, console)


def _classifier(out: Path, settings: ClassifierSettings, threads: int, console: Console) -> None:
    start = time.perf_counter()
    with _progress("classifier", settings.steps, console) as report:
        model = train_classifier(settings, report)
    accuracy = held_out_accuracy(model)
    config = {
        "network": CLASSIFIER_CONFIG,
        "training": {**asdict(settings), "threads": threads},
        "results": {"parameters": _parameters(model), "held_out_accuracy": round(accuracy, 6)},
    }
    bundle.write(model, config, out, bundle.CLASSIFIER)
    console.print(f"classifier: held-out accuracy {accuracy:.4f}, {time.perf_counter() - start:.0f} s, in {out}")


def _denoiser(name: str, out: Path, settings: DenoiserSettings, threads: int, console: Console) -> None:
    start = time.process_time()
    network: nn.Module | None = None
    if isinstance(settings, LatentSettings):
        with _progress("autoencoder", settings.autoencoder_steps, console) as report:
            network = train_autoencoder(settings, report)
    with _progress(name, settings.steps, console) as report:
        model = train_denoiser(settings, report, network)
    loss = _write_denoiser(name, model, settings, threads, out)
    console.print(f"{name}: loss {loss:.5f}, {time.process_time() - start:.0f} CPU s, in {out}")


def _write_denoiser(name: str, model: nn.Module, settings: DenoiserSettings, threads: int, out: Path) -> float:
    """Write the denoiser's bundle and its sample picture; returns the model card's loss."""
    conditional = isinstance(settings, ConditionalSettings)
    loss, network = card_loss(model, alphas_cumprod(), conditional=conditional), settings.network
    results: dict[str, float] = {}
    if isinstance(model, LatentDigits):
        network = network | {"autoencoder": network["autoencoder"] | {"scaling_factor": model.scale}}
        results = {"reconstruction_error": round(reconstruction_error(model), 6)}
    config = {
        "network": network,
        "schedule": SCHEDULE,
        "training": {**asdict(settings), "threads": threads},
        "results": {"parameters": _parameters(model), "loss": round(loss, 6), **results},
    }
    bundle.write(model, config, out, name)
    # A column for each digit, where the denoiser is told which to draw.
    columns, guidance = (CLASSES, PICTURE_GUIDANCE) if conditional else (8, None)
    written = SOURCES[name](DigitsOptions(folder=str(out))).load(torch.device("cpu"))
    save_grid(to_bytes(ddim(written, 8 * columns, PICTURE_STEPS, seed=0, guidance=guidance)), out / PICTURES[name], columns)
    return loss


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@contextlib.contextmanager
def _progress(name: str, steps: int, console: Console) -> Iterator[Callable[[int, float, nn.Module], None]]:
    """A progress bar that shows the running mean of the loss."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    mean: float | None = None
    with Progress(*columns, TextColumn("loss {task.fields[loss]:.4f}"), console=console) as progress:
        task = progress.add_task(name, total=steps, loss=float("nan"))

        def report(step: int, loss: float, _: nn.Module) -> None:
            nonlocal mean
            mean = loss if mean is None else 0.98 * mean + 0.02 * loss
            progress.update(task, completed=step, loss=mean)

        yield report
