"""A cell whose denoiser a library quantizes as a whole: calibrated on the same samples, measured like any other."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ptqbench.boundary.build import build
from ptqbench.errors import CellFailedError
from ptqbench.measuring.accounting import FLOAT_BYTES, BitLedger, float_rows, other_bytes
from ptqbench.plugin.component import Bound
from ptqbench.quant.ledger import ATTENTION
from ptqbench.quant.plan import Plan
from ptqbench.recipe.experiment import Method
from ptqbench.roles.network import CalibrationCalls, LayerGrids, NetworkQuantizer, QuantizedNetwork
from ptqbench.sampling.calibrate import CalibrationSet
from ptqbench.sampling.reference import calibration_key, calibration_set, evaluate_samples
from ptqbench.stage.cache import Costs, content_key
from ptqbench.stage.context import RunContext
from ptqbench.stage.predictor import Predictor

STAGE = "network quantization"


def library_versions(chosen: Bound) -> dict[str, str]:
    """Versions of a network quantizer's packages: part of every key of its results. Raises `CellFailedError` naming the extra
    if one is not installed."""
    quantizer: type[NetworkQuantizer] = chosen.component.load()
    try:
        return {name: importlib.metadata.version(name) for name in quantizer.packages}
    except importlib.metadata.PackageNotFoundError as error:
        message = f"{error.name} is not installed: the row needs the extra {quantizer.extra!r}"
        raise CellFailedError(message, f'pip install "ptqbench[{quantizer.extra}]"') from error


def versions_key(method: Method | None) -> list[Any]:
    """What a cell's key has of a library: nothing for methods that have none, or whose library is not there."""
    if method is None or method.network is None:
        return []
    try:
        return [library_versions(method.network)]
    except CellFailedError:
        return ["not installed"]


@dataclass(frozen=True)
class Bridged:
    """The predictor of a denoiser that a library quantized, the key of its state, its ledger, a hash of what it computes, the
    number of calibration samples that it was shown, and whether the library multiplies integers."""

    predictor: Predictor
    state: str
    ledger: BitLedger
    digest: str
    samples: int
    executed: bool


def bridged(ctx: RunContext, method: Method, seed: int, chosen: Bound, costs: Costs) -> Bridged:
    """Quantize the run's denoiser by a library. Raises `CellFailedError` where it is not installed or quantizes nothing."""
    versions = library_versions(chosen)
    drawing = Costs()
    calibration, samples = calibration_set(ctx, drawing, method, seed), calibration_key(ctx, method, seed)
    bits = method.weights.bits, method.activations.bits
    batch = ctx.experiment.calibration.batch
    key = content_key(ctx.base_key, STAGE, chosen.key, versions, bits, samples, batch)
    quantizer: NetworkQuantizer = build(chosen)
    shown = _Shown(ctx, calibration, batch)
    with ctx.cache.locked(STAGE.replace(" ", "-"), key) as entry, costs.measure(STAGE, entry, resumes=False):
        denoiser = copy.deepcopy(ctx.model.denoiser)
        found = quantizer.quantize(denoiser, bits, CalibrationCalls(len(calibration), shown.feed, shown.arguments))
        module = found.module.eval()
    if shown.any:
        costs.include(drawing)
    predictor = ctx.predictor(module)
    with torch.no_grad():
        seen = evaluate_samples(
            ctx, predictor, calibration, torch.arange(min(8, len(calibration)), dtype=torch.int64, device="cpu")
        )
    if not found.layers:
        raise CellFailedError(f"{chosen.name} left every layer in full precision", "choose other bits, or another library")
    digest = hashlib.sha256(seen.cpu().contiguous().numpy().tobytes()).hexdigest()[:12]
    ledger = _ledger(ctx, chosen.name, found)
    return Bridged(predictor, key, ledger, digest, len(calibration) if shown.any else 0, found.executed)


@dataclass
class _Shown:
    """Runs of the calibration samples through a denoiser; `any` says whether a library asked for them."""

    ctx: RunContext
    calibration: CalibrationSet
    batch: int
    any: bool = False

    @torch.no_grad()
    def feed(self, denoiser: nn.Module) -> None:
        """Show them all."""
        self.any = True
        predictor = self.ctx.predictor(denoiser)
        for piece in torch.arange(len(self.calibration), dtype=torch.int64, device="cpu").split(self.batch):
            evaluate_samples(self.ctx, predictor, self.calibration, piece)

    def arguments(self, denoiser: nn.Module) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """What the denoiser is called with meanwhile."""
        seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        handle = denoiser.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
        try:
            self.feed(denoiser)
        finally:
            handle.remove()
        return seen


def _ledger(ctx: RunContext, library: str, found: QuantizedNetwork) -> BitLedger:
    """The ledger of what the library's modules say; what they do not name is in floating point."""
    denoiser = ctx.model.denoiser
    rows = []
    for row in Plan.uniform(ctx.probe, None, None).ledger(ctx.probe):
        if row["kind"] == ATTENTION:
            rows.append(row | {"weights": 0, "weight_bytes": 0, "activation_bytes": 0})
            continue
        weights = denoiser.get_submodule(row["name"]).get_parameter("weight").numel()
        rows.append(row | _grids(found.layers.get(row["name"]), weights, library))
    rows += float_rows(denoiser, rows)
    return BitLedger(rows, other_bytes(denoiser, rows))


def _grids(made: LayerGrids | None, weights: int, library: str) -> dict[str, Any]:
    plain = {"weights": weights, "weight_bytes": FLOAT_BYTES * weights, "activation_bytes": 0}
    if made is None:
        return plain | {"why": [f"{library} left it in floating point"]}
    spec = made.weight
    size = FLOAT_BYTES * weights if spec is None else math.ceil(spec.bits * weights / 8) + FLOAT_BYTES * made.scales
    return {
        "weight": None if spec is None else vars(spec),
        "activation": None if made.activation is None else vars(made.activation),
        "why": [made.why] if made.why else [],
        "weights": weights,
        "weight_bytes": size,
        "activation_bytes": 0 if made.activation is None else FLOAT_BYTES,
    }
