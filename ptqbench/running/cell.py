"""One cell from start to finish: quantize, generate images on the shared noise, measure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ptqbench.errors import CellFailedError
from ptqbench.failures import PLUGIN_ERRORS, reason_of, traceback_of
from ptqbench.fitting.hooks import Corrected, HookFitter, KeptHook
from ptqbench.fitting.observer import Observer
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.fitting.subject import Subject
from ptqbench.measuring.accounting import BitLedger, bit_ledger, float_bytes
from ptqbench.measuring.constants import constant_sites
from ptqbench.measuring.measure import Measurement
from ptqbench.measuring.state_hash import state_hash
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.recipe.experiment import Cell
from ptqbench.results.costs import EVALUATION_STAGES
from ptqbench.results.record import EXECUTED, SIMULATED, Budget, CellRecord
from ptqbench.running.bridge import STAGE, bridged, versions_key
from ptqbench.sampling.images import FULL, generate, image_chunks, image_shards
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.cache import CacheWriteError, Costs, Entry, content_key
from ptqbench.stage.context import RunContext
from ptqbench.stage.predictor import Predictor
from ptqbench.stage.stages import Tell

PREVIEW = 16
"""Images of each cell that are kept beside its record, for the picture of samples."""


TRACEBACK = "traceback.json"
"""The file of a failed attempt's traceback, which stands where its record would."""


def cell_key(ctx: RunContext, cell: Cell) -> str:
    """Everything that a cell's record depends on: two recipes with an equal cell share its result."""
    e = ctx.experiment
    sampling = {k: v for k, v in dataclasses.asdict(e.sampling).items() if k != "batch"}
    features = [e.evaluation.features_key, ctx.features_fingerprint]
    measured = [features, [m.key for m in e.evaluation.metrics], e.evaluation.probes, ctx.reference_digest]
    measured += ctx.metric_files
    method = cell.method.key if cell.method else ""
    budget = dataclasses.asdict(e.calibration)
    return content_key(ctx.base_key, sampling, budget, measured, method, cell.seed, *versions_key(cell.method))


def cell_quantizer(
    ctx: RunContext, cell: Cell, costs: Costs, tell: Tell, observer: Observer | None = None, *, fit_seed: int | None = None
) -> MethodQuantizer:
    """The quantization of a cell that has a method; `fit_seed` names its fits' random streams, the cell's seed unless given."""
    if cell.method is None:
        raise ValueError("the full-precision cell has nothing to quantize")
    if cell.method.network is not None:
        hint = "name a cell of a method"
        raise CellFailedError(f"{cell.id} is quantized by {cell.method.network.name} as a whole: no unit is fitted", hint)
    subject = Subject.of_run(ctx, cell.method, cell.seed, costs)
    return MethodQuantizer(subject, cell.method, cell.seed if fit_seed is None else fit_seed, costs, tell, observer)


@dataclass(frozen=True)
class Calibrated:
    """What is measured: the predictor and the key of its weights, grids and hooks; what it weighs, and what it took.

    `state` names what they were made from, `state_hash` the codes and grids themselves. `made` is None for full precision, and
    where a library made it all, which may have `executed` integers.
    """

    predictor: Predictor
    state: str
    ledger: BitLedger | None = None
    budget: Budget = field(default_factory=Budget)
    state_hash: str = ""
    made: Made | None = None
    executed: bool = False


@dataclass(frozen=True)
class Made:
    """A quantized denoiser, how it was quantized, and the hooks that were fitted to it."""

    denoiser: QuantizedDenoiser
    quantizer: MethodQuantizer
    hooks: tuple[KeptHook, ...]


class CellRun:
    """Runs one cell and returns its record; an error on the way makes it a failed record, with nothing lost.

    `fit_seed` is for studies that call `calibrated` alone: records and their keys know the cell's seed only.
    """

    def __init__(self, ctx: RunContext, cell: Cell, tell: Tell, *, fit_seed: int | None = None) -> None:
        self.ctx, self.cell, self.tell, self.fit_seed = ctx, cell, tell, fit_seed
        self.costs = Costs()

    def run(self) -> CellRecord:
        """The cell's record, read from the cache when nothing that it depends on has changed."""
        key = cell_key(self.ctx, self.cell)
        with self.ctx.cache.locked("cells", key) as entry:
            try:
                if entry.has("record.json"):
                    return self._recalled(entry)
                with arithmetic() as check:
                    record = self._compute(entry)
                    check()
            except CacheWriteError:
                raise  # every other cell would meet it as well
            except PLUGIN_ERRORS as error:
                entry.save_json(TRACEBACK, traceback_of(error))
                return self._record(status="failed", reason=reason_of(error))
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
        made = self.calibrated()
        images = image_chunks(self.ctx, made.state, lambda: made.predictor)
        self._generate(made)
        if not entry.has("preview.safetensors"):  # an interrupted run may have got this far
            entry.save_tensors("preview.safetensors", {"images": images.first(PREVIEW)})
        numbers = Measurement(self.ctx, self.cell, self.costs, made.predictor, made.state).numbers(self.tell)
        return self._record(
            status="ok",
            metrics=numbers,
            constant=constant_sites(self.ctx, made.made.denoiser, made.predictor) if made.made else {},
            budget=made.budget,
            state_hash=made.state_hash,
            execution=EXECUTED if made.executed else SIMULATED,
            fits=made.made.quantizer.fits() if made.made else [],
            **self._weights(made.ledger),
        )

    def calibrated(self) -> Calibrated:
        """The cell's predictor: as it is for full precision, else quantized, with the method's hooks fitted in order."""
        ctx, method = self.ctx, self.cell.method
        if method is None:
            return Calibrated(ctx.predictor(), FULL)
        if method.network is not None:
            self.tell(STAGE, 0.0)
            made = bridged(ctx, method, self.cell.seed, method.network, self.costs)
            spent = {stage: n.denoiser for stage, n in self.costs.evaluations().items() if stage not in EVALUATION_STAGES}
            budget = Budget(
                made.samples, denoiser_evaluations=sum(spent.values()), by_stage={k: n for k, n in spent.items() if n}
            )
            return Calibrated(made.predictor, made.state, made.ledger, budget, made.digest, executed=made.executed)
        quantizer = cell_quantizer(ctx, self.cell, self.costs, self.tell, fit_seed=self.fit_seed)
        q, state = quantizer.run()
        corrected = Corrected(ctx.predictor(q.module, q.context), state)
        fitter = HookFitter(ctx, self.costs, self.tell, self.cell.seed)
        for chosen in method.hooks:
            corrected = fitter.fit(corrected, chosen)
        ledger = bit_ledger(ctx.model.denoiser, ctx.probe, quantizer.plan, q, corrected.values)
        kept = Made(q, quantizer, corrected.kept)
        return Calibrated(corrected.predictor, corrected.state, ledger, quantizer.budget(), state_hash(q), kept)

    def _generate(self, made: Calibrated) -> None:
        pieces = image_shards(self.ctx)
        for i, ids in enumerate(pieces):
            self.tell(f"images {ids.stop}/{self.ctx.experiment.sampling.images}", i / len(pieces))
            generate(self.ctx, self.costs, made.state, lambda: made.predictor, ids)

    def _weights(self, ledger: BitLedger | None) -> dict[str, Any]:
        """Bytes and the bit ledger as fields of the record."""
        full = float_bytes(self.ctx.model.denoiser)
        if ledger is None:
            return {"weight_bytes": full, "full_precision_bytes": full}
        return {
            "weight_bytes": ledger.bytes,
            "full_precision_bytes": full,
            "bits_summary": ledger.summary,
            "ledger": ledger.rows,
            "ledger_hash": ledger.hash,
        }
