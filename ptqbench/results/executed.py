"""Executed times as a table of their own: what ran, and not what was simulated."""

from __future__ import annotations

from typing import Literal

from ptqbench.results import formatting
from ptqbench.results.record import CellRecord, Executed, RunRecord
from ptqbench.results.tables import Cell, Column, Table

AGREES = 30.0
"""dB from which what runs may pass for what was simulated."""

COLUMNS = (
    Column("method", "method", text=True),
    Column("bits", "bits", text=True),
    Column("engine", "engine", text=True),
    Column("full_precision_ms_executed", "full precision", remark="ms a step"),
    Column("quantized_ms_executed", "quantized", remark="ms a step"),
    Column("ratio_executed", "speed", remark="times"),
    Column("integer_share_executed", "int8", remark="of MACs"),
    Column("snr_executed", "agrees", remark="dB"),
    Column("peak_mib_executed", "peak", remark="MiB, fp | q"),
    Column("file_kib_executed", "files", remark="KiB, fp | q"),
)


def executed_tables(run: RunRecord) -> list[Table]:
    """The table of a run's executed cells, or none."""
    rows = [_row(cell, name, found) for cell in run.cells for name, found in cell.executed.items()]
    if not rows:
        return []
    conditions = dict.fromkeys(_conditions(found) for cell in run.cells for found in cell.executed.values())
    notes = [
        f"One sampling step, full precision and quantized by turns in the same engine: {'; '.join(conditions)}. Medians with "
        "95 % intervals. int8: the share of multiplications that the engine executed on integers; agrees: with the simulation.",
    ]
    slow = [f"{cell.id} in {name}" for cell in run.cells for name, found in cell.executed.items() if found.ratio[2] < 1]
    if slow:
        notes.append(f"Slower than full precision: {', '.join(slow)}.")
    other = [f"{cell.id} in {n}" for cell in run.cells for n, found in cell.executed.items() if not found.snr >= AGREES]
    if other:
        notes.append(f"Computes something else than the simulation, whose quality is the cell's: {', '.join(other)}.")
    return [Table(f"{run.title or run.name}: executed, not simulated", [*COLUMNS], rows, notes)]


def _conditions(found: Executed) -> str:
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    return f"{found.version}, batch {found.batch}, {threads}, {found.repeats} pairs, {found.cpu or 'unknown processor'}"


def _row(cell: CellRecord, name: str, found: Executed) -> list[Cell]:
    name_cells = [Cell(f"{cell.method} {cell.variant}".rstrip()), Cell(cell.bits), Cell(name)]
    times = [_timed(figures, 1000.0) for figures in (found.full_precision_seconds, found.quantized_seconds)]
    low, high = found.ratio[1:]
    agrees = found.snr >= AGREES  # the speed of something else is nobody's gain
    tone: Literal["good", "bad", ""] = "bad" if high < 1 else "good" if low > 1 and agrees else ""
    ratio = Cell(formatting.measured(*found.ratio), found.ratio[0], low, high, found.repeats, tone=tone)
    peaks, sizes = (" | ".join(f"{x:.0f}" for x in pair) for pair in (found.peak_mib, [x / 1024 for x in found.file_bytes]))
    files = Cell(sizes) if any(found.file_bytes) else Cell()
    return [*name_cells, *times, ratio, Cell(f"{found.integer_share:.0%}"), Cell(f"{found.snr:.1f}"), Cell(peaks), files]


def _timed(figures: list[float], unit: float) -> Cell:
    value, low, high = figures
    return Cell(formatting.measured(value * unit, low * unit, high * unit), value, low, high)
