"""Measuring a cell: features and noise predictions as cached stages, then the recipe's metrics on what they found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ptqbench.boundary.build import build
from ptqbench.errors import CellFailedError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureSet
from ptqbench.measuring.features import (
    feature_info,
    full_precision_set,
    image_features,
    image_set,
    real_set,
    wanted_outputs,
)
from ptqbench.measuring.protocol import protocol_id
from ptqbench.recipe.experiment import Cell
from ptqbench.results.record import Number
from ptqbench.roles.metric import Metric
from ptqbench.sampling.images import full_precision_chunks, image_chunks, image_shards
from ptqbench.sampling.reference import predict_states, probe_states
from ptqbench.stage.cache import Costs, Entry, cached_tensors, content_key
from ptqbench.stage.context import RunContext
from ptqbench.stage.predictor import Predictor
from ptqbench.stage.stages import Tell

COMBINED = "error"
"""Name of the combined prediction's error among those of branches."""


@dataclass
class Measurement:
    """One cell's predictor (`state` is the key of its weights and grids) before the recipe's metrics."""

    ctx: RunContext
    cell: Cell
    costs: Costs
    predictor: Predictor
    state: str

    def numbers(self, tell: Tell) -> dict[str, Number]:
        """All numbers by name. Raises `CellFailedError` where one would be meaningless."""
        self._extract(tell)
        tell("metrics", 0.0)
        evidence = self.evidence()
        found: dict[str, Number] = {}
        for chosen in self.ctx.experiment.evaluation.metrics:
            metric: Metric = build(chosen)
            if metric.relative and evidence.is_full_precision:
                continue
            for name, v in metric.compute(evidence).items():
                detail = {key: list(values) for key, values in v.detail.items()}
                named = protocol_id(self.ctx, chosen, metric, v.n)
                replicates = [float(x) for x in v.replicates]
                found[name] = Number(v.value, v.low, v.high, v.n, metric.better, detail, named, replicates, v.unit)
        return found

    def evidence(self) -> Evidence:
        """What metrics see of this cell; images and features are read when a metric asks."""
        errors = self._noise_errors()
        return Evidence(
            images=image_chunks(self.ctx, self.state, lambda: self.predictor),
            full_precision=full_precision_chunks(self.ctx),
            feature_sets=cache(self._features),
            extractor=feature_info(self.ctx),
            noise_error=errors.pop(COMBINED),
            branch_errors=errors,
            timesteps=self.ctx.schedule.timesteps,
            gains=self.ctx.schedule.gains,
            is_full_precision=self.cell.method is None,
            prompts=self.ctx.model.prompts,
        )

    def _extract(self, tell: Tell) -> None:
        """Compute the features of this cell's images, as far as metrics read them."""
        pieces = image_shards(self.ctx) if wanted_outputs(self.ctx) else []
        for i, ids in enumerate(pieces):
            tell(f"features {ids.stop}/{self.ctx.experiment.sampling.images}", i / len(pieces))
            image_features(self.ctx, self.costs, self.state, lambda: self.predictor, ids)

    def _features(self, which: str, output: str) -> FeatureSet | None:
        if output not in wanted_outputs(self.ctx):
            raise CellFailedError(f"a metric read the features {output!r} unannounced", "name them in Metric.reads")
        if which == "cell":
            return image_set(self.ctx, self.state, lambda: self.predictor, output)
        return full_precision_set(self.ctx, output) if which == "fp" else real_set(self.ctx, output)

    def _noise_errors(self) -> dict[str, Tensor]:
        """Mean squared difference to the full-precision prediction on its own held-out trajectories, (P, S) float64: of the
        combined prediction, and by branch where there are several."""
        ctx = self.ctx
        full = probe_states(ctx, Costs())
        x = full.pop("x")
        full[COMBINED] = full.pop("eps")
        if self.cell.method is None:
            return {name: torch.zeros(eps.shape[:2], dtype=torch.float64, device=eps.device) for name, eps in full.items()}

        @torch.inference_mode()
        def make(_: Entry) -> dict[str, Tensor]:
            errors = []
            for s in range(x.shape[1]):
                found = predict_states(ctx, self.predictor, x[:, s], s, "probe")
                predictions = {COMBINED: found.eps, **found.branches}
                errors.append({name: squared_errors(predictions[name], eps[:, s]) for name, eps in full.items()})
            return {name: torch.stack([step[name] for step in errors], dim=1) for name in full}

        sizes = [x.shape[0], ctx.experiment.calibration.batch]
        key = content_key(ctx.base_key, self.state, "noise error", ctx.experiment.sampling.seed, sizes)
        errors = cached_tensors(ctx.cache, self.costs, "noise-error", key, make)
        if not (self.cell.method.weights.off and self.cell.method.activations.off) and not bool(errors[COMBINED].any()):
            raise CellFailedError(
                "the quantized model predicts exactly what full precision predicts: nothing in it was quantized",
                "look at the cell's layers with `ptqbench plan RECIPE --cell ID`, and at the quantizers' export()",
            )
        return errors


def squared_errors(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference by row."""
    return (found.double() - wanted.double()).square().flatten(1).mean(1)
