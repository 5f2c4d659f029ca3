"""Everything about one cell, as neutral tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from ptqbench.results import formatting
from ptqbench.results.fit_tables import unit_tables, weighting_tables
from ptqbench.results.formatting import grid_words
from ptqbench.results.record import HOOK_BYTES, CellRecord
from ptqbench.results.sensitivity import sensitivity_table
from ptqbench.results.tables import Cell, Column, Table


def cell_tables(cell: CellRecord) -> list[Table]:
    """Metrics, their details, budget, cost per stage, fits by unit, grids of layers and attentions; empty ones are left out."""
    details = [_detail(name, number.detail) for name, number in cell.metrics.items() if number.detail]
    fits = [*unit_tables("fits by unit", [cell.fits]), *weighting_tables("learned weights by unit", [cell.fits])]
    found = [_metrics(cell), *details, _budget(cell), _cost(cell), *fits, _layers(cell), _attentions(cell), _constant(cell)]
    if cell.sensitivity:
        found.append(sensitivity_table(cell))
    return [table for table in found if table.rows or table.notes]


def _metrics(cell: CellRecord) -> Table:
    columns = [Column("metric", "metric", text=True), Column("better", "better", text=True)]
    columns += [Column("value", "value"), Column("low", "low"), Column("high", "high"), Column("n", "n")]
    rows = []
    for name, x in cell.metrics.items():
        figures = [formatting.significant(figure, 5) for figure in (x.value, x.low, x.high)]
        rows.append([Cell(text) for text in (name, x.better, *figures, f"{x.n} {x.unit}")])
    notes = [f"failed: {cell.reason}"] if cell.status != "ok" else []
    return Table(f"{cell.id}: {cell.status}", columns, rows, notes)


def _detail(name: str, detail: Mapping[str, list[float]]) -> Table:
    """Named lists side by side, a row for each position."""
    columns = [Column(key, key) for key in detail]
    rows = [[Cell(_short(value)) for value in values] for values in zip_longest(*detail.values(), fillvalue=math.nan)]
    return Table(f"{name} in detail", columns, rows)


def _short(value: float) -> str:
    return f"{value:.0f}" if value == round(value, 0) else formatting.significant(value)


def _budget(cell: CellRecord) -> Table:
    budget = cell.budget
    figures = {
        "training samples": f"{budget.training}",
        "validation samples": f"{budget.validation}",
        "optimiser steps": f"{budget.gradient_steps}",
        "denoiser evaluations": f"{budget.denoiser_evaluations}",
        **{f"  in {stage}": f"{count}" for stage, count in budget.by_stage.items()},
    }
    if budget.unit_evaluations:
        figures["evaluations of single units"] = f"{budget.unit_evaluations}"
    figures["weights, simulated"] = f"{cell.weight_bytes / 1024:.1f} KiB"
    if hooks := cell.bits_summary.get(HOOK_BYTES):
        figures["  in sampler hooks"] = f"{hooks / 1024:.1f} KiB"
    figures["weights, full precision"] = f"{cell.full_precision_bytes / 1024:.1f} KiB"
    rows = [[Cell(name), Cell(figure)] for name, figure in figures.items()]
    return Table("budget and size", [Column("what", "what", text=True), Column("figure", "figure")], rows)


def _cost(cell: CellRecord) -> Table:
    columns = [Column("stage", "stage", text=True), Column("seconds", "seconds"), Column("peak_mib", "peak MiB")]
    columns.append(Column("cached", "from the cache", text=True))
    rows = [
        [Cell(name), Cell(formatting.seconds(x.seconds)), Cell(f"{x.peak_mib:.0f}"), Cell("yes" if x.cached else "no")]
        for name, x in cell.cost.items()
    ]
    return Table("cost when computed", columns, rows)


def _layers(cell: CellRecord) -> Table:
    """Layers and weights counted by their grids; exceptions with the reason that the plan noted."""
    layers: Counter[tuple[str, str, str]] = Counter()
    weights: Counter[tuple[str, str, str]] = Counter()
    for row in cell.ledger:
        if "site" in row:
            continue
        kind = (grid_words(row.get("weight")), grid_words(row.get("activation")), "; ".join(row.get("why") or ()))
        layers[kind] += 1
        weights[kind] += _size(row.get("weight_shape") or ())
    columns = [Column("weight", "weight grid", text=True), Column("activation", "activation grid", text=True)]
    columns += [Column("layers", "layers"), Column("weights", "weights"), Column("why", "why", text=True)]
    rows = [
        [Cell(text) for text in (*kind[:2], str(count), str(weights[kind]), kind[2] or "as the method says")]
        for kind, count in layers.most_common()
    ]
    return Table("grids of the layers", columns, rows)


def _attentions(cell: CellRecord) -> Table:
    """Attentions counted by the grid of each of their sites; exceptions with the reason that the plan noted."""
    counts = Counter(
        (str(row["site"]), grid_words(row.get("activation")), "; ".join(row.get("why") or ()) or "as the method says")
        for row in cell.ledger
        if "site" in row
    )
    columns = [Column("site", "site", text=True), Column("grid", "grid", text=True)]
    columns += [Column("attentions", "attentions"), Column("why", "why", text=True)]
    rows = [[Cell(text) for text in (site, grid, str(count), why)] for (site, grid, why), count in counts.items()]
    return Table("grids of attention", columns, rows)


def _constant(cell: CellRecord) -> Table:
    """Sites that round all that they get to one value."""
    columns = [Column("site", "site", text=True), Column("steps", "sampling steps")]
    rows = [[Cell(name), Cell(str(count), count)] for name, count in cell.constant.items()]
    return Table("sites that give one value whatever comes in", columns, rows)


def _size(shape: Sequence[int]) -> int:
    return math.prod(shape) if shape else 0
