"""Fits as neutral tables: how far each row's are finished, and what every unit came to."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from ptqbench.errors import UserError
from ptqbench.results.fits import MOST_HARDENING, MOST_UNDECIDED, FitQuality, finish, gain
from ptqbench.results.formatting import MINUS, significant
from ptqbench.results.record import RunRecord
from ptqbench.results.rows import Row, rows_of
from ptqbench.results.tables import Cell, Column, Table

UNFINISHED_WORDS = (
    f"unfinished: over {100 * MOST_UNDECIDED:g} % of the roundings undecided, or hardening them costs over "
    f"{100 * MOST_HARDENING:g} % of the loss"
)

READING = (
    "before: with the weights that the phase found, rounded to nearest where it learns rounding. soft: after the last "
    "iteration. hard: with every rounding decided. Mean losses on equal samples, without penalties; each unit has a scale of "
    "its own. held out: on validation samples, of a method that has any.",
    "undecided: weights that hardening moved by more than a twentieth of a step, in % of those whose rounding is learned.",
)


def fitted_rows(run: RunRecord) -> list[Row]:
    """The rows whose cells say what their units came to."""
    return [row for row in rows_of(run) if any(cell.fits for cell in row.cells)]


def fit_tables(rows: Sequence[Row]) -> list[Table]:
    """The summary of these rows, and for each its units and what their weights learned."""
    named = [
        ([f"{row.method} {row.variant}".rstrip(), row.bits, phase], fits)
        for row in rows
        for phase, fits in _by_phase(fit for cell in row.cells for fit in cell.fits).items()
    ]
    found = [summary_table(named)] if named else []
    for row in rows:
        cells = [cell.fits for cell in row.cells]
        found += [*unit_tables(f"{row.label}: units", cells), *weighting_tables(f"{row.label}: learned weights", cells)]
    return found


def summary_table(named: Sequence[tuple[Sequence[str], Sequence[FitQuality]]]) -> Table:
    """A line for each method, bits and phase: are these fits finished, and how much of the loss before do they leave?"""
    columns = [Column(name, name, text=True) for name in ("method", "bits", "phase")]
    columns += [Column("units", "units"), Column("undecided", "undecided", remark="%")]
    columns += [Column("hardening", "hardening costs", remark="%"), Column("left", "loss left", remark="hard/before")]
    columns += [Column("held_out", "held out", remark="hard/before"), Column("state", "roundings", text=True)]
    lines = [[*map(Cell, names), *_summary(fits)] for names, fits in named]
    notes = [
        f"{UNFINISHED_WORDS}. hardening costs: units in units of their loss before, added up. loss left: geometric mean over "
        "units and calibration seeds; what the network makes of it, only its own metrics say."
    ]
    return Table("Fit quality", columns, lines, notes)


def _summary(fits: Sequence[FitQuality]) -> list[Cell]:
    found = finish(fits)
    units = Cell(str(len({fit.unit for fit in fits})))
    left = [_cell(gain(fits, held_out=held_out), 3) for held_out in (False, True)]
    if found is None:
        return [units, Cell(), Cell(), *left, Cell("none learned")]
    state = Cell("finished") if found.finished else Cell("unfinished", tone="bad")
    return [units, _percent(found.undecided), _percent(found.hardening), *left, state]


def unit_tables(title: str, cells: Iterable[Sequence[FitQuality]]) -> list[Table]:
    """A table for each phase: its units in the order in which they are fitted, means over these cells."""
    return [
        _units(f"{title}, phase {phase} ({fits[0].iterations} iterations)", fits)
        for phase, fits in _by_phase(fit for cell in cells for fit in cell).items()
    ]


def _units(title: str, fits: Sequence[FitQuality]) -> Table:
    columns = [Column("unit", "unit", text=True), *(Column(stage, stage) for stage in ("before", "soft", "hard"))]
    columns += [Column(f"held_out_{stage}", stage, remark="held out") for stage in ("before", "hard")]
    columns.append(Column("undecided", "undecided", remark="%"))
    rows = []
    for unit, own in _by_unit(fits).items():
        held = [fit.held_out for fit in own if fit.held_out is not None]
        losses = [_mean([getattr(fit.training, stage) for fit in own]) for stage in ("before", "soft", "hard")]
        losses += [_mean([getattr(found, stage) for found in held]) for stage in ("before", "hard")]
        rows.append([Cell(unit), *map(_cell, losses), _percent(_mean([fit.undecided for fit in own]))])
    return Table(title, columns, rows, list(READING))


def weighting_tables(title: str, cells: Iterable[Sequence[FitQuality]]) -> list[Table]:
    """The same of what weighters learned; none of phases in which no weighter reported anything."""
    phases = _by_phase(fit for cell in cells for fit in cell if fit.weighter is not None)
    return [_weightings(f"{title}, phase {phase}", fits) for phase, fits in phases.items()]


def _weightings(title: str, fits: Sequence[FitQuality]) -> Table:
    columns = [Column("unit", "unit", text=True), Column("updates", "updates"), Column("touches", "touches", remark="a sample")]
    columns += [Column("effective", "effective", remark="% of samples"), Column("first", "validation", remark="first")]
    columns += [Column("last", "validation", remark="last"), Column("slopes", "matching", remark="share")]
    columns.append(Column("cosine", "cosine"))
    rows = []
    for unit, own in _by_unit(fits).items():
        known = [fit.weighter for fit in own if fit.weighter is not None]
        first, last = (_mean([x.terms["validation"][i] for x in known if "validation" in x.terms]) for i in (0, 2))
        pairs = [x.terms for x in known if {"validation_slope", "matching_slope"} <= x.terms.keys()]
        slopes = [t["matching_slope"][1] / t["validation_slope"][1] for t in pairs if t["validation_slope"][1]]
        cosine = _mean([x.terms["cosine"][1] for x in known if "cosine" in x.terms])
        touches, effective = _mean([x.touches for x in known]), _mean([x.effective for x in known])
        learned = [_cell(touches, 3), _percent(effective), _cell(first), _cell(last), _cell(_mean(slopes), 3), _cell(cosine, 2)]
        rows.append([Cell(unit), Cell(str(known[0].updates)), *learned])
    notes = [
        "touches: how often a sample's weight learned. effective: effective sample size, (sum of weights)^2 / sum of their "
        "squares. validation: what weights are learned for, at the look-ahead of the first and of the last update. matching: "
        "how long the matching term's gradient by the scores is beside the validation term's before they are combined, and the "
        "cosine between both."
    ]
    return Table(title, columns, rows, notes)


def _by_phase(fits: Iterable[FitQuality]) -> dict[str, list[FitQuality]]:
    found: dict[str, list[FitQuality]] = {}
    for fit in fits:
        found.setdefault(fit.phase, []).append(fit)
    return found


def _by_unit(fits: Iterable[FitQuality]) -> dict[str, list[FitQuality]]:
    found: dict[str, list[FitQuality]] = {}
    for fit in fits:
        found.setdefault(fit.unit, []).append(fit)
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _cell(value: float | None, digits: int = 4) -> Cell:
    return Cell() if value is None else Cell(significant(value, digits).replace("-", MINUS), value)


def _percent(share: float | None) -> Cell:
    """A share in percent; small ones keep a digit, since it is the last ones that count."""
    if share is None:
        return Cell()
    text = f"{100 * share:.1f}" if abs(share) >= 0.001 or share == 0 else f"{100 * share:.1g}"
    return Cell(text.replace("-", MINUS), share)


def chosen_rows(run: RunRecord, wanted: Sequence[str] = ()) -> list[Row]:
    """The rows whose cells say what their units came to; of some methods only, if any are named.

    Raises `UserError` where there are none.
    """
    rows = fitted_rows(run)
    if not rows:
        raise UserError("no cell of this run says what its units came to", "run the recipe again with methods that fit units")
    known = dict.fromkeys(row.method for row in rows)
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(f"this run has no fits of {', '.join(unknown)}", f"there are: {', '.join(known)}")
    return [row for row in rows if not wanted or row.method in wanted]
