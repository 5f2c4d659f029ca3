"""Models, features, solvers, metrics and reporters, which a whole comparison shares."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import PROBABILITIES, FeatureInfo, FeatureSet
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.record import CellRecord, Number, RunRecord
from ptqbench.roles.flow import alphas_of, sigmas_of
from ptqbench.roles.metric import MetricValue
from ptqbench.roles.model import COND, UNCOND, PredictionType
from ptqbench.stage.prediction import noised
from ptqbench.testing.trial import Trial
from ptqbench.testing.world import STEPS

CPU = torch.device("cpu")
IMAGES = 40


def models(trial: Trial) -> None:
    """Loads the same weights each time, and evaluates each row of a batch on its own."""
    first, second = trial.build(), trial.build()
    if first.fingerprint() != second.fingerprint():
        raise trial.fault("has another fingerprint each time", "hash weights and configuration, and nothing else")
    first.reference_images()
    model = first.load(CPU)
    ids = range(2)
    x = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([len(model.alphas_cumprod) - 1, 0])
    with torch.inference_mode():
        for branch in model.branches:
            cond = model.conditions(ids, branch)
            whole = model.call(model.denoiser, x, t, cond)
            rows = [
                model.call(model.denoiser, x[i : i + 1], t[i : i + 1], {k: v[i : i + 1] for k, v in cond.items()}) for i in ids
            ]
            if not torch.allclose(whole, torch.cat(rows), rtol=1e-3, atol=1e-4):
                raise trial.fault("evaluates a row otherwise in another batch", "call() treats each row as one sample")
        _check_images(trial, model.decode(x))
        again = second.load(CPU)
        if not torch.equal(again.call(again.denoiser, x, t, cond), whole):
            raise trial.fault("computes something else when it is loaded again", "weights come from files or a fixed seed")


def _check_images(trial: Trial, images: Tensor) -> None:
    if float(images.abs().max()) > 1.5:
        raise trial.fault(f"decodes to values up to {float(images.abs().max()):.3g}", "images lie in [-1, 1]")


def features(trial: Trial) -> None:
    """Finite features of announced width, the same for an image in every batch."""
    first, second = trial.build(), trial.build()
    if first.fingerprint() != second.fingerprint():
        raise trial.fault("has another fingerprint each time", "hash weights and configuration, and nothing else")
    for extractor in (first, second):
        extractor.prepare(CPU)
    images, whole = _taken(first)
    again = second.extract(images)
    rows = [first.extract(images[i : i + 1]) for i in range(len(images))]
    for name, value in whole.items():
        if not torch.equal(value, again[name]):
            raise trial.fault(f"gives other features each time ({name})", "weights come from files or a fixed seed")
        if not torch.allclose(value, torch.cat([row[name] for row in rows]), rtol=1e-3, atol=1e-4):
            raise trial.fault(f"gives an image other features in another batch ({name})", "row i depends on image i alone")


def _taken(extractor: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Images (3, C, H, W) of the first size that the extractor takes, and their features."""
    refused: UserError | None = None
    for shape in ((3, 32, 32), (1, 16, 16), (1, 8, 8), (3, 64, 64)):
        images = torch.randint(0, 256, (3, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        try:
            return images, extractor.extract(images)
        except UserError as error:
            if error.exit_code == 3:
                raise
            refused = error
    assert refused is not None
    raise refused


def solvers(trial: Trial) -> None:
    """On the path to a single clean image, whose prediction is known, it ends there, for each of its grids."""
    solver = trial.build()
    betas, levels = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), torch.arange(1, 1001, dtype=torch.float64) / 1000
    alphas = alphas_of(levels) if solver.flow else (1 - betas).cumprod(0)
    kind: PredictionType = "flow" if solver.flow else "epsilon"
    clean = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(2, 1, 4, 4)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for grid in solver.grids:
        for steps, most in ((STEPS, 0.2), (100, 0.05)):
            schedule = solver.schedule(alphas, grid, steps, 0.0)
            alpha = schedule.alpha
            x = noised(kind, clean, noise, float(alpha[0]))[0].float()
            update = schedule.start()
            for s in range(schedule.steps):
                x = update(s, x, _exact(kind, x, clean, alpha[s]), None, schedule.noise(s))
            error = float((x.double() - clean).abs().max())
            if not error < most:
                what = f"ends {error:.3g} off the clean image with {steps} steps on the grid {grid!r}"
                raise trial.fault(what, "with the exact prediction of one image the path leads to it")


def _exact(kind: PredictionType, x: Tensor, clean: Tensor, alpha: Tensor) -> Tensor:
    """The prediction that leads from x (B, C, H, W) to `clean`."""
    found = x.double()
    return ((found - clean) / sigmas_of(alpha) if kind == "flow" else (found - alpha**0.5 * clean) / (1 - alpha) ** 0.5).float()


def metrics(trial: Trial) -> None:
    """Announced, finite numbers for a cell and for full precision, the same each time."""
    metric = trial.build()
    outputs = {name: 4 for name in metric.reads} or {"pool": 4}
    published = any(name.partition("@")[0] in ("fid", "sfid", "kid", "is") for name in _named(metric, outputs, False))
    info = FeatureInfo("trial", outputs, published)
    found: list[dict[str, MetricValue]] = []
    for _ in range(2):
        found.append(trial.build().compute(evidence(info, quantized=True)))
    if found[0] != found[1]:
        raise trial.fault("gives other numbers each time", "draw from a generator with a fixed seed, and keep nothing")
    if not found[0]:
        raise trial.fault("gives a quantized cell no number", "compute() returns what names() announces, where it applies")
    if not metric.relative:
        metric.compute(evidence(info, quantized=False))


def _named(metric: object, outputs: dict[str, int], inception: bool) -> list[str]:
    found: list[str] = metric.names(FeatureInfo("trial", outputs, inception))  # type: ignore[attr-defined]
    return found


def evidence(info: FeatureInfo, *, quantized: bool) -> Evidence:
    """Evidence of 40 images and 8 held-out trajectories of 10 steps, a little off those of full precision."""
    rng = torch.Generator().manual_seed(0)
    full = torch.randint(0, 256, (IMAGES, 1, 16, 16), generator=rng, dtype=torch.uint8)
    noise = torch.randint(-9, 10, full.shape, generator=rng)
    ours = (full.long() + noise).clamp(0, 255).to(torch.uint8) if quantized else full
    sets = {(which, name): _rows(rng, which, name, width) for which in _SETS for name, width in info.outputs.items()}
    error = (
        torch.rand(8, STEPS, generator=rng, dtype=torch.float64) if quantized else torch.zeros(8, STEPS, dtype=torch.float64)
    )
    gains = torch.ones(STEPS, dtype=torch.float64)
    return Evidence(
        images=Chunks.of(ours, 16),
        full_precision=Chunks.of(full, 16),
        feature_sets=lambda which, output: FeatureSet.of(sets[which, output]),
        extractor=info,
        noise_error=error,
        timesteps=torch.arange(STEPS).flip(0) * 100,
        gains=gains,
        is_full_precision=not quantized,
        branch_errors={COND: error, UNCOND: error / 2},
        prompts=("a red bicycle", "two zebras at dusk"),
    )


_SETS = {"cell": 0.2, "fp": 0.0, "data": 0.1}
"""Sets of images, and how far their features lie from those of full precision."""


def _rows(rng: torch.Generator, which: str, name: str, width: int) -> Tensor:
    rows = torch.randn(IMAGES, width, generator=rng) + _SETS[which]
    return rows.softmax(1) if name == PROBABILITIES else rows


def reports(trial: Trial) -> None:
    """Text for a terminal of any width and for a file, also where cells failed; the same each time."""
    for width in (None, 40, 120):
        first, second = (trial.build().render(record(), width=width) for _ in range(2))
        if not first or first != second:
            raise trial.fault("writes something else each time", "a report is a function of the record")


def record() -> RunRecord:
    """A comparison with two methods, one of which failed at one of two seeds, and full precision."""
    cells = [CellRecord("full-precision", "full-precision", "W32A32", "", 0, "ok", metrics=_numbers(0.0))]
    for method, shift in (("nearest", 1.0), ("other", 0.5)):
        for seed in (0, 1):
            name = f"{method}/W4A8/seed{seed}"
            cells.append(CellRecord(name, method, "W4A8", "", seed, "ok", metrics=_numbers(shift + seed / 10)))
    cells[-1] = CellRecord("other/W4A8/seed1", "other", "W4A8", "", 1, "failed", "a reason\n  and what to do")
    made = RunRecord("trial", "A trial", "", "nearest", "0" * 8, "2026-01-01T00:00:00+00:00", {}, {"image seed": 0}, cells)
    return attach_comparisons(made)


def _numbers(shift: float) -> dict[str, Number]:
    replicates = [shift + i / 100 for i in range(20)]
    return {
        "eps-error": Number(shift + 0.1, shift, shift + 0.2, 8, protocol="aaaa", replicates=replicates, unit="trajectories")
    }
