"""One cell from start to finish: quantize, generate images on the shared noise, measure."""

from __future__ import annotations

import dataclasses
import traceback
from pathlib import Path
from typing import Any

from ptqbench.engine.accounting import BitLedger, bit_ledger, float_bytes
from ptqbench.engine.cache import Costs, Entry, content_key
from ptqbench.engine.context import RunContext
from ptqbench.engine.images import FULL, OTHER, generate, image_chunks, image_shards
from ptqbench.engine.measure import Measurement
from ptqbench.engine.quantize import CellQuantizer, Tell
from ptqbench.engine.sample import Predictor
from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Cell
from ptqbench.results.record import Budget, CellRecord

PREVIEW = 16
"""Images of each cell that are kept beside its record, for the picture of samples."""


def cell_key(ctx: RunContext, cell: Cell) -> str:
    """Everything that a cell's record depends on: two recipes with an equal cell share its result."""
    e = ctx.experiment
    sampling = {k: v for k, v in dataclasses.asdict(e.sampling).items() if k != "batch"}
    features = [e.evaluation.features.key, ctx.features_fingerprint]
    measured = [features, [m.key for m in e.evaluation.metrics], e.evaluation.probes, ctx.reference_digest]
    method = cell.method.key if cell.method else cell.variant
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
            state, predictor, quantizer, ledger = (OTHER if self.cell.variant else FULL), ctx.predictor(), None, None
        else:
            quantizer = CellQuantizer(ctx, self.cell, self.costs, self.tell)
            q, state = quantizer.run()
            predictor = ctx.predictor(q.module, q.context)
            ledger = bit_ledger(ctx.model.denoiser, ctx.probe, quantizer.plan, q)
        images = image_chunks(ctx, state, lambda: predictor)
        self._generate(state, predictor)
        entry.save_tensors("preview.safetensors", {"images": images.first(PREVIEW)})
        return self._record(
            status="ok",
            metrics=Measurement(ctx, self.cell, self.costs, predictor, state).numbers(self.tell),
            budget=self._budget(quantizer),
            **self._weights(ledger),
        )

    def _generate(self, state: str, predictor: Predictor) -> None:
        pieces = image_shards(self.ctx)
        for i, ids in enumerate(pieces):
            self.tell(f"images {ids.stop}/{self.ctx.experiment.sampling.images}", i / len(pieces))
            generate(self.ctx, self.costs, state, lambda: predictor, ids)

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
