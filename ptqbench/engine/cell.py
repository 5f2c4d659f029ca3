"""One cell from start to finish: quantize, generate images on the shared noise, measure."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptqbench.component import Bound
from ptqbench.engine.accounting import BitLedger, bit_ledger
from ptqbench.engine.cache import Costs, Entry, cached_tensors, content_key
from ptqbench.engine.context import RunContext
from ptqbench.engine.quantize import CellQuantizer, Tell
from ptqbench.engine.reference import probe_states
from ptqbench.engine.sample import Predictor, sample, shards, to_bytes
from ptqbench.errors import CellFailedError, UserError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.recipe.experiment import Cell
from ptqbench.results.record import Budget, CellRecord, Number
from ptqbench.roles.features import FeatureExtractor
from ptqbench.roles.metric import Metric

FULL = "full precision"
PREVIEW = 16
"""Images of each cell that are kept beside its record, for the picture of samples."""


def image_shards(ctx: RunContext) -> list[range]:
    """How a cell's images are cut into resumable parts."""
    return shards(ctx.experiment.sampling.images, ctx.experiment.sampling.batch)


def generate(ctx: RunContext, costs: Costs, state: str, predictor: Callable[[], Predictor], ids: range) -> Tensor:
    """Images `ids` as uint8 (len(ids), C, H, W); `state` is the key of the predictor's weights and grids."""

    def make(_: Entry) -> dict[str, Tensor]:
        seed = ctx.experiment.sampling.seed
        latents = sample(predictor(), ids, seed=seed, block="images", device=ctx.device)
        if not bool(torch.isfinite(latents).all()):
            raise CellFailedError("generated images are not finite", "look at the ranges of activations")
        return {"images": to_bytes(ctx.model.decode(latents))}

    key = content_key(ctx.base_key, state, "images", ctx.experiment.sampling.seed, [ids.start, ids.stop])
    return cached_tensors(ctx.cache, costs, "images", key, make)["images"]


def full_precision_images(ctx: RunContext, costs: Costs) -> Tensor:
    """All images of the full-precision model, (N, C, H, W) uint8."""
    return torch.cat([generate(ctx, costs, FULL, ctx.predictor, ids) for ids in image_shards(ctx)])


def cell_key(ctx: RunContext, cell: Cell) -> str:
    """Everything that a cell's record depends on: two recipes with an equal cell share its result."""
    e = ctx.experiment
    sampling = {k: v for k, v in dataclasses.asdict(e.sampling).items() if k != "batch"}
    features = [e.evaluation.features.key, ctx.features_fingerprint]
    measured = [features, [m.key for m in e.evaluation.metrics], e.evaluation.probes]
    method = cell.method.key if cell.method else None
    return content_key(ctx.base_key, sampling, dataclasses.asdict(e.calibration), measured, method, cell.seed)


class CellRun:
    """Runs one cell and returns its record; an error on the way makes it a failed record, with nothing lost."""

    def __init__(self, ctx: RunContext, cell: Cell, tell: Tell) -> None:
        self.ctx, self.cell, self.tell = ctx, cell, tell
        self.costs = Costs()

    def run(self) -> CellRecord:
        """The cell's record, read from the cache when nothing that it depends on has changed."""
        key = cell_key(self.ctx, self.cell)
        with self.ctx.cache.locked("cells", key) as entry:
            if entry.has("record.json"):
                return self._recalled(entry)
            try:
                record = self._compute(entry)
            except UserError as error:
                return self._record(status="failed", reason=str(error))
            except Exception as error:
                # A bug, most likely of a plugin: the other cells must not pay for it, and its author needs the traceback.
                traceback.print_exc()
                place = traceback.extract_tb(error.__traceback__)[-1]
                reason = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
                return self._record(status="failed", reason=reason)
            entry.save_json("record.json", dataclasses.asdict(record))
            return record

    def _recalled(self, entry: Entry) -> CellRecord:
        record = CellRecord.from_dict(entry.load_json("record.json"))
        for cost in record.cost.values():
            cost.cached = True
        return dataclasses.replace(
            record, id=self.cell.id, method=self.cell.name, bits=self.cell.bits, variant=self.cell.variant
        )

    def _record(self, **fields: Any) -> CellRecord:
        c = self.cell
        return CellRecord(id=c.id, method=c.name, bits=c.bits, variant=c.variant, seed=c.seed, cost=self.costs.stages, **fields)

    def _compute(self, entry: Entry) -> CellRecord:
        ctx = self.ctx
        if self.cell.method is None:
            state, predictor, quantizer, ledger = FULL, ctx.predictor(), None, None
        else:
            quantizer = CellQuantizer(ctx, self.cell, self.costs, self.tell)
            q, state = quantizer.run()
            predictor = ctx.predictor(q.module, q.context)
            ledger = bit_ledger(ctx.model.denoiser, ctx.probe, quantizer.plan, q)
        pieces = image_shards(ctx)
        images = []
        for i, ids in enumerate(pieces):
            self.tell(f"images {ids.stop}/{ctx.experiment.sampling.images}", i / len(pieces))
            images.append(generate(ctx, self.costs, state, lambda: predictor, ids))
        entry.save_tensors("preview.safetensors", {"images": torch.cat(images)[:PREVIEW]})
        return self._record(
            status="ok",
            metrics=self._measure(torch.cat(images), predictor, state),
            budget=self._budget(quantizer),
            **self._weights(ledger),
        )

    def _weights(self, ledger: BitLedger | None) -> dict[str, Any]:
        """Bytes and the bit ledger as fields of the record."""
        full = sum(4 * p.numel() for p in self.ctx.model.denoiser.parameters())
        if ledger is None:
            return {"weight_bytes": full, "full_precision_bytes": full}
        return {
            "weight_bytes": ledger.bytes,
            "full_precision_bytes": full,
            "bits_summary": ledger.summary,
            "ledger": ledger.rows,
            "ledger_hash": ledger.hash,
        }

    def _budget(self, quantizer: CellQuantizer | None) -> Budget:
        if quantizer is None or "calibration" not in quantizer.__dict__:
            return Budget()
        split, wanted = quantizer.split, self.ctx.experiment.calibration
        return Budget(
            training=len(split.train),
            validation=len(split.validation),
            gradient_steps=quantizer.gradient_steps,
            denoiser_evaluations=wanted.trajectories * self.ctx.schedule.steps,
        )

    def _measure(self, images: Tensor, predictor: Predictor, state: str) -> dict[str, Number]:
        ctx = self.ctx
        self.tell("metrics", 0.0)
        full = full_precision_images(ctx, Costs())
        bound = ctx.experiment.evaluation.features
        evidence = Evidence(
            images=images,
            full_precision=full,
            features=_features(ctx, bound, {"cell": images, "fp": full, "data": ctx.source.reference_images()}),
            feature_name=bound.name,
            noise_error=self._noise_error(predictor, state),
            timesteps=ctx.schedule.timesteps,
            is_full_precision=self.cell.method is None,
        )
        found: dict[str, Number] = {}
        for chosen in ctx.experiment.evaluation.metrics:
            metric: Metric = chosen.create()
            if metric.relative and evidence.is_full_precision:
                continue
            for name, v in metric.compute(evidence).items():
                detail = {key: list(values) for key, values in v.detail.items()}
                found[name] = Number(v.value, v.low, v.high, v.n, metric.better, detail)
        return found

    def _noise_error(self, predictor: Predictor, state: str) -> Tensor:
        """Mean squared difference to the full-precision prediction on its own held-out trajectories: (P, S) float64."""
        ctx = self.ctx
        states = probe_states(ctx, Costs())
        x, eps = states["x"], states["eps"]
        if self.cell.method is None:
            return torch.zeros(eps.shape[:2], dtype=torch.float64)

        @torch.inference_mode()
        def make(_: Entry) -> dict[str, Tensor]:
            cond = {k: v.to(ctx.device) for k, v in ctx.model.conditions(range(x.shape[0])).items()}
            errors = []
            for s in range(x.shape[1]):
                step = torch.full((x.shape[0],), s)
                found = predictor(x[:, s].to(ctx.device), step, cond).cpu()
                errors.append((found.double() - eps[:, s].double()).square().flatten(1).mean(1))
            return {"error": torch.stack(errors, dim=1)}

        key = content_key(ctx.base_key, state, "noise error", ctx.experiment.sampling.seed, x.shape[0])
        return cached_tensors(ctx.cache, self.costs, "noise-error", key, make)["error"]


def _features(ctx: RunContext, bound: Bound, sets: dict[str, Tensor | None]) -> Callable[[str], Tensor | None]:
    """Features by set name, each extracted at most once."""
    extractor: FeatureExtractor = bound.create()
    extractor.prepare(ctx.device)

    @cache
    def features(which: str) -> Tensor | None:
        images = sets[which]
        return None if images is None else extractor.extract(images).double().cpu()

    return features
