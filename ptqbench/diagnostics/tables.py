"""The findings as neutral tables."""

from __future__ import annotations

import math

from ptqbench.diagnostics.arms import Arm
from ptqbench.diagnostics.statistics import Spread
from ptqbench.diagnostics.summary import Summary
from ptqbench.report.gradients import ticks_of_groups
from ptqbench.results import formatting
from ptqbench.results.fit_tables import summary_table
from ptqbench.results.tables import NOTHING, Cell, Column, Table

SHOWN = ((0, "start"), (2, "middle"), (4, "end"))
"""Moments of the alignment table."""


def tables(summary: Summary) -> list[Table]:
    """All tables that have rows."""
    made = [fit_table(summary), alignment_table(summary), loss_table(summary), learned_table(summary), cost_table(summary)]
    return [table for table in made if table.rows]


def fit_table(summary: Summary) -> Table:
    """Whether roundings were decided, and how much of the loss fits leave."""
    found = [(arm, [u.quality for row in arm.rows for u in row.observation.units if u.quality]) for arm in summary.arms]
    return summary_table([((arm.name, arm.bits, arm.phase), fits) for arm, fits in found if fits])


def alignment_table(summary: Summary) -> Table:
    """Mean cosine between timestep groups at three moments, and the difference to uniform weights."""
    columns = [*_KEYS, *(Column(words, words) for _, words in SHOWN)]
    columns += [Column("ends", "first to last group", remark="middle")]
    columns += [Column(f"difference {words}", f"{words}, minus uniform") for _, words in SHOWN[1:]]
    rows = []
    for arm in summary.arms:
        found = summary.alignment(arm.label)
        row = [*_names(arm), *(_spread(found.value[moment]) for moment, _ in SHOWN), _spread(found.ends[SHOWN[1][0]])]
        differences = [found.difference[moment] for moment, _ in SHOWN[1:]] if found.difference else []
        rows.append(row + ([_difference(d) for d in differences] or [Cell()] * (len(SHOWN) - 1)))
    notes = [
        "Mean cosine between the gradients of the mean task loss of different timestep groups, mean over units. Intervals are "
        "95 % over calibration seeds; differences are paired by seed.",
    ]
    return Table("Gradient alignment of timestep groups", columns, rows, notes)


def loss_table(summary: Summary) -> Table:
    """Final loss by timestep group as a multiple of the counterpart's."""
    names = ticks_of_groups(summary.groups)
    columns = [*_KEYS, *(Column(f"group {g}", f"t {name}") for g, name in enumerate(names))]
    found = [(arm, summary.alignment(arm.label).loss_ratio) for arm in summary.arms]
    rows = [[*_names(arm), *(_spread(ratio) for ratio in ratios)] for arm, ratios in found if ratios]
    notes = [
        "Task loss at the end of the fit divided by that of the same method with uniform weights: geometric mean over units."
    ]
    return Table("Loss by timestep group, relative to uniform weights", columns, rows, notes)


def learned_table(summary: Summary) -> Table:
    """Effective sample size of learned weights, their rank correlation with gradient agreement, and how large the terms are
    that they follow."""
    columns = [*_KEYS, Column("effective", "effective sample size", remark="share"), Column("rank", "rank correlation")]
    columns += [Column("balance", "matching term", remark="share")]
    rows = [[*_names(summary.arm(x.arm)), *map(_spread, (x.effective, x.rank, x.balance))] for x in summary.learned]
    notes = [
        "rank correlation: Spearman's, of a training sample's weight with the cosine between its gradient and that of the "
        "validation loss, in each unit, mean over units. matching term: its size as a share of the validation term's, both "
        "averaged over the updates of a unit, in the median unit.",
    ]
    return Table("Learned weights", columns, rows, notes)


def cost_table(summary: Summary) -> Table:
    """Seconds of fitting relative to uniform weights."""
    columns = [Column("method", "method", text=True), Column("counterpart", "relative to", text=True), Column("seeds", "seeds")]
    columns += [Column("seconds", "seconds"), Column("base", "uniform", remark="seconds"), Column("ratio", "ratio")]
    columns += [Column("source", "measured in", text=True)]
    rows = []
    for x in summary.costs:
        means = [sum(values) / len(values) for values in (x.seconds, x.counterpart_seconds)]
        names = [Cell(x.title), Cell(x.counterpart), Cell(str(len(x.seeds)))]
        rows.append([*names, *(Cell(formatting.significant(mean)) for mean in means), _spread(x.ratio), Cell(x.source)])
    notes = ["measured in: run, the stages of finished runs; diagnosis, the observed fits without the measuring."]
    return Table("Cost of the weighter", columns, rows, notes)


_KEYS = [
    Column("method", "method", text=True),
    Column("bits", "bits", text=True),
    Column("phase", "phase", text=True),
    Column("seeds", "seeds"),
]


def _names(arm: Arm) -> list[Cell]:
    return [Cell(arm.name), Cell(arm.bits), Cell(arm.phase), Cell(str(len(arm.rows)))]


def _spread(found: Spread) -> Cell:
    if math.isnan(found.mean):
        return Cell()
    if math.isnan(found.low):
        return Cell(formatting.significant(found.mean), found.mean)
    return Cell(formatting.measured(found.mean, found.low, found.high), found.mean, found.low, found.high)


def _difference(found: Spread) -> Cell:
    """A difference with its sign."""
    if math.isnan(found.low):
        return Cell(
            NOTHING if math.isnan(found.mean) else formatting.difference(found.mean, found.mean, found.mean), found.mean
        )
    return Cell(formatting.difference(found.mean, found.low, found.high), found.mean, found.low, found.high)
