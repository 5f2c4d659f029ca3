"""What the studies found, as neutral tables."""

from __future__ import annotations

from collections.abc import Sequence

from ptqbench.results.formatting import significant
from ptqbench.results.tables import Cell, Column, Table
from ptqbench.studies.aa import FalseAlarms
from ptqbench.studies.ab import EXCESS, Sensitivity
from ptqbench.studies.setting import Setting

MOST = 0.05
"""The share of false alarms that may not be exceeded."""


def false_alarm_table(found: Sequence[FalseAlarms], setting: Setting) -> Table:
    """The A/A study."""
    columns = [Column("metric", "metric", text=True), Column("trials", "trials")]
    columns += [Column("declared", "declared different", remark="% of trials"), Column("range", "95 % interval")]
    columns += [Column("single", "single, p < 5 %", remark="uncorrected, %"), Column("covered", "covered", remark="%")]
    rows = [
        [
            Cell(x.metric),
            Cell(str(x.trials)),
            Cell(_percent(x.declared)),
            Cell(f"{_percent(x.declared_low)} to {_percent(x.declared_high)}"),
            Cell(_percent(x.single)),
            Cell(_percent(x.covered)),
        ]
        for x in found
    ]
    held = all(x.declared <= MOST for x in found)
    notes = [
        f"Each trial compares {found[0].comparisons} copies of a method with another copy: {setting.images} images, "
        f"{setting.seeds} calibration seed{'s' if setting.seeds > 1 else ''}, all noise drawn anew.",
        "declared different: any copy called better or worse, after correction. covered: intervals that hold the truth, 0.",
        f"At most 5 % declared different: {'yes' if held else 'no'}.",
    ]
    if setting.seeds == 1:
        notes.append(
            "With one calibration seed a test is about these very calibrations, which do differ: more than 5 % is right."
        )
    return Table("A/A: identical methods", columns, rows, notes)


def sensitivity_table(found: Sequence[Sensitivity], setting: Setting) -> Table:
    """The A/B study."""
    columns = [Column("metric", "metric", text=True), Column("test", "test", text=True, remark="images")]
    columns += [Column("seen", "seen at", remark="80 %"), Column("predicted", "predicted")]
    columns += [Column(f"power {excess:g}", f"+{excess:.0%}") for excess in EXCESS]
    rows = [
        [
            Cell(x.metric),
            Cell(f"{x.test} {x.images}"),
            Cell(f"> {significant(max(x.effects), 2)}" if x.seen is None else significant(x.seen, 2)),
            Cell(significant(x.predicted, 2)),
            *(Cell(f"{100 * share:.0f}") for share in x.power),
        ]
        for x in sorted(found, key=lambda x: (x.metric, x.test))
    ]
    notes = [
        "seen at: the true difference, in the metric's unit, that is found in 80 % of trials; "
        "predicted: what a comparison itself says it could have seen.",
        "+x %: injected damage; below it the percentage of trials with p < 5 % (+0 %: false alarms).",
        f"{setting.seeds} calibration seed{'s' if setting.seeds > 1 else ''}. Their spread does not shrink with the images.",
    ]
    return Table("A/B: graded damage", columns, rows, notes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0")
