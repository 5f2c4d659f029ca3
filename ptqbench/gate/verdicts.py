"""Verdicts, what they are about, and what they mean for the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ptqbench.errors import EXIT_CELL_FAILED, EXIT_NOT_COMPARABLE, EXIT_OK, EXIT_REGRESSION
from ptqbench.gate.difference import Difference
from ptqbench.results.tables import Line


class Verdict(StrEnum):
    """Worst first."""

    FAILED = "failed"
    WORSE = "worse"
    CHANGED = "changed"
    MISSING = "missing"
    INCOMPARABLE = "incomparable"
    BETTER = "better"
    NEW = "new"
    SAME = "same"


class Tier(StrEnum):
    """Kinds of comparison: what must be equal, what is measured with noise, and what it took."""

    EXACT = "exact"
    STAT = "stat"
    COST = "cost"


RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}
SURPRISES = frozenset({Verdict.BETTER, Verdict.NEW})


@dataclass(frozen=True)
class Finding:
    """One comparison: of a metric, or of something exact such as the bit ledger.

    `text` says it in words. `then` and `now` are set only where the two may stand side by side. An `informational`
    finding never fails a check. `command` reproduces the cell.
    """

    verdict: Verdict
    tier: Tier
    cell: str
    subject: str
    text: str = ""
    better: str = ""
    then: float | None = None
    now: float | None = None
    difference: Difference | None = None
    band: float | None = None
    informational: bool = False
    command: str = ""

    @property
    def order(self) -> tuple[bool, int, float]:
        """Worst first: by verdict, then by how many bands the difference is."""
        size = abs(self.difference.value) / self.band if self.difference is not None and self.band else 0.0
        return self.informational, RANK[self.verdict], -size


@dataclass(frozen=True)
class Report:
    """All findings, worst first, and notes about the comparison as a whole.

    `headline` has the sentences about the run itself: how its methods compare with each other. `remedy` is what makes the run
    the baseline, for what fails and is intended.
    """

    recipe: str
    baseline: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    strict: bool = False
    headline: tuple[Line, ...] = ()
    remedy: str = ""
    counts: Counter[Verdict] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(sorted(self.findings, key=lambda f: f.order)))
        object.__setattr__(self, "counts", Counter(f.verdict for f in self.findings if not f.informational))

    @property
    def notable(self) -> list[Finding]:
        """What is not the same."""
        return [f for f in self.findings if f.verdict is not Verdict.SAME]

    def fails(self, finding: Finding) -> bool:
        """Whether a finding makes the exit code another than 0."""
        if finding.informational or finding.verdict is Verdict.SAME:
            return False
        return self.strict or finding.verdict not in SURPRISES

    @property
    def failing(self) -> list[Finding]:
        """What makes the exit code another than 0."""
        return [f for f in self.findings if self.fails(f)]

    @property
    def advice(self) -> tuple[str, ...]:
        """The notes, and the remedy while anything fails that a baseline may be made of: a failed cell may not."""
        needed = self.remedy and any(f.verdict is not Verdict.FAILED for f in self.failing)
        return (*self.notes, self.remedy) if needed else self.notes

    @property
    def exit_code(self) -> int:
        """5 if a cell failed, else 1 for a regression, else 4 if something cannot be compared, else 0."""
        failing = {f.verdict for f in self.failing}
        if Verdict.FAILED in failing:
            return EXIT_CELL_FAILED
        if failing - {Verdict.INCOMPARABLE}:
            return EXIT_REGRESSION
        return EXIT_NOT_COMPARABLE if failing else EXIT_OK

    @property
    def summary(self) -> str:
        """Counts in words, worst first: "1 worse, 1 new, 14 same"."""
        counted = [f"{self.counts[verdict]} {verdict}" for verdict in Verdict if self.counts[verdict]]
        return ", ".join(counted) or "nothing was compared"


def commands(findings: Sequence[Finding]) -> list[str]:
    """The commands that reproduce these findings' cells, each once. Running again what is not comparable is no help."""
    return list(dict.fromkeys(f.command for f in findings if f.command and f.verdict is not Verdict.INCOMPARABLE))
