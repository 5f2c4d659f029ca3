"""Claims before kept results: paired differences, corrected for all comparisons of a question in the same metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptqbench.errors import UserError
from ptqbench.evaluate.intervals import Interval, mean_interval
from ptqbench.findings.document import Claim, Document, TimeRatio, Topic
from ptqbench.plugin.names import row_name, suggest
from ptqbench.results.compare import BETTER, REFUSED, UNSEEN, WORSE, base_of, compare_rows, pool_of, with_verdicts
from ptqbench.results.costs import fitting_seconds
from ptqbench.results.record import CellRecord, Comparison, RunRecord
from ptqbench.results.rows import Row, rows_of

REPRODUCED, CONTRADICTED, OPEN, NO_ANSWER = "reproduced", "contradicted", "not seen", "no answer"
"""What a comparison says about a claim. "not seen": no difference beyond chance, in either direction."""

UNPUBLISHED: Mapping[str, str] = {REPRODUCED: "seen", CONTRADICTED: "the opposite seen"}
"""The words for questions that nobody has published an answer to."""

OUTCOMES: Mapping[str, Mapping[str, str]] = {
    "better": {BETTER: REPRODUCED, WORSE: CONTRADICTED, UNSEEN: OPEN, REFUSED: NO_ANSWER},
    "worse": {WORSE: REPRODUCED, BETTER: CONTRADICTED, UNSEEN: OPEN, REFUSED: NO_ANSWER},
    # Seeing no difference is no proof that there is none: such a claim can only be contradicted.
    "no difference": {UNSEEN: OPEN, BETTER: CONTRADICTED, WORSE: CONTRADICTED, REFUSED: NO_ANSWER},
}


@dataclass(frozen=True)
class Answer:
    """One comparison that a claim asks for, and what it says about the claim."""

    claim: Claim
    theirs: str
    comparison: Comparison

    @property
    def outcome(self) -> str:
        outcome = OUTCOMES[self.claim.expects][self.comparison.verdict]
        return outcome if self.claim.published else UNPUBLISHED.get(outcome, outcome)


def answers(document: Document, records: Mapping[str, RunRecord]) -> list[Answer]:
    """An answer for every claim, opponent and metric, in the document's order.

    Raises `UserError` for a row or a metric that the named run does not have, and for a topic whose words were written for
    other outcomes.
    """
    measured = {name for record in records.values() for cell in record.cells for name in cell.metrics}
    unknown = [name for name in document.metrics if name not in measured]
    if unknown:
        raise UserError(f"no run has measured {', '.join(unknown)}", suggest(unknown[0], sorted(measured), "metrics"))
    found = []
    for topic in document.topics:
        own = _answers(topic, document.metrics, records)
        _check_counts(topic, own)
        found += own
    return found


def _answers(topic: Topic, metrics: Sequence[str], records: Mapping[str, RunRecord]) -> list[Answer]:
    """The comparisons of one topic, which are one family in each metric."""
    asked = [
        (claim, theirs, metric)
        for claim in topic.claims
        for theirs in claim.theirs
        for metric in claim.metrics or _measured(claim, metrics, records[claim.run])
    ]
    family = Counter(metric for *_, metric in asked)
    raw = [compare(records[claim.run], claim.ours, theirs, metric, family[metric]) for claim, theirs, metric in asked]
    return [Answer(claim, theirs, c) for (claim, theirs, _), c in zip(asked, with_verdicts(raw), strict=True)]


def _check_counts(topic: Topic, found: Sequence[Answer]) -> None:
    """The words of a topic stand for these outcomes; nobody reads a page again whenever a number changes."""
    now = dict(Counter(answer.outcome for answer in found))
    if topic.counts and {outcome: n for outcome, n in topic.counts.items() if n} != now:
        then, says = (", ".join(f"{n} {outcome}" for outcome, n in sorted(x.items())) for x in (topic.counts, now))
        raise UserError(
            f'the answer to "{topic.heading}" was written for other outcomes: {then}; the results say {says}',
            "read the comparisons, mend the words, then the topic's counts",
        )


def _measured(claim: Claim, metrics: Sequence[str], record: RunRecord) -> list[str]:
    """Those of the document's metrics that the run has of the claim's own row. Raises `UserError` if it has none."""
    known = {name for cell in row_of(record, claim.ours).cells for name in cell.metrics}
    found = [name for name in metrics if name in known]
    if not found:
        raise UserError(
            f"{record.name}: the row {claim.ours} has none of the metrics {', '.join(metrics)}",
            f"it has {', '.join(sorted(known))}",
        )
    return found


def compare(record: RunRecord, ours: str, theirs: str, metric: str, family: int) -> Comparison:
    """Row `ours` minus row `theirs` in one metric, one of a `family` of comparisons; without a verdict yet."""
    rows = rows_by_name(record)
    mine, other = (_finished(rows, name, record.name) for name in (ours, theirs))
    for row, name in ((mine, ours), (other, theirs)):
        known = list(dict.fromkeys(name for cell in row.cells for name in cell.metrics))
        if metric not in known:
            raise UserError(f"{record.name}: the row {name} has no metric {metric!r}", suggest(metric, known, "metrics"))
    # The same rows as in the run's own table of differences: page and table must not give two intervals for one question.
    bases = [row for row in rows.values() if row.method == other.method and row.cells]
    alike = [row for row in rows.values() if row is mine or base_of(row, bases) is other]
    return compare_rows(mine, other, metric, pool_of(other, alike, metric), family)


def row_of(record: RunRecord, name: str) -> Row:
    """The row "method/bits" or "method/bits/variant". Raises `UserError` if no cell of it has finished."""
    return _finished(rows_by_name(record), name, record.name)


def rows_by_name(record: RunRecord) -> dict[str, Row]:
    """The record's rows by what claims call them."""
    return {row_name(*row.key): row for row in rows_of(record)}


def _finished(rows: Mapping[str, Row], name: str, run: str) -> Row:
    if name not in rows or not rows[name].cells:
        raise UserError(f"{run}: there is no finished row {name!r}", suggest(name, list(rows), "rows"))
    return rows[name]


@dataclass(frozen=True)
class TimeAnswer:
    """Mean seconds of fitting of both rows, and the mean ratio over the calibration seeds with Student's interval."""

    asked: TimeRatio
    seconds: float
    base_seconds: float
    ratio: Interval
    seeds: int


def time_ratio(asked: TimeRatio, records: Mapping[str, RunRecord]) -> TimeAnswer:
    """The ratio is taken seed by seed. Raises `UserError` for rows that are not there or have fewer than two common seeds."""
    own, theirs = (_seconds(row_of(records[asked.run], name).cells) for name in (asked.ours, asked.theirs))
    seeds = sorted(own.keys() & theirs.keys())
    if len(seeds) < 2:
        raise UserError(
            f"{asked.run}: {asked.ours} and {asked.theirs} were fitted on {len(seeds)} common seeds",
            "a ratio with an interval needs two of them",
        )
    ratio = mean_interval([own[seed] / theirs[seed] for seed in seeds])
    seconds, base = (sum(x[seed] for seed in seeds) / len(seeds) for x in (own, theirs))
    return TimeAnswer(asked, seconds, base, ratio, len(seeds))


def _seconds(cells: Sequence[CellRecord]) -> dict[int, float]:
    """By seed, what fitting took; cells that fitted nothing are left out."""
    found = {cell.seed: fitting_seconds(cell.cost) for cell in cells}
    return {seed: seconds for seed, seconds in found.items() if seconds > 0}
