"""The sentences that every report opens with: what was compared, and for each bit setting how it came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ptqbench.results import formatting
from ptqbench.results.compare import BETTER, REFUSED, UNSEEN, WORSE, base_of
from ptqbench.results.record import Comparison, RunRecord
from ptqbench.results.rows import Row, rows_of
from ptqbench.results.tables import Line

MOST_METRICS = 2
"""Metrics whose amounts are told for a method that is better; the table has the others."""

FEW = 3
"""Where more methods than these are better, one amount of each has to do."""

MOST_NAMES = 6
"""Methods that are told by name where they are not the answer to who won."""

TIMES = 3.0
"""An error this many times the baseline's is told as a factor: "1560 %" is read wrongly."""


@dataclass(frozen=True)
class Standing:
    """A row and how it compares with the baseline's in every metric, in the order of the recipe."""

    row: Row
    found: tuple[Comparison, ...]

    def of(self, verdict: str) -> list[Comparison]:
        return [c for c in self.found if c.verdict == verdict]

    @property
    def label(self) -> str:
        return f"{self.row.method} {self.row.variant}".rstrip()


def headline(run: RunRecord) -> list[Line]:
    """What was held equal, in one line, then a line for each bit setting that has anything to say."""
    rows = [row for row in rows_of(run) if not row.full_precision]
    found = [Line(bits, _verdicts(run, [row for row in rows if row.bits == bits])) for bits in _bits(rows)]
    return [Line("", conditions(run)), *(line for line in found if line.text)]


def conditions(run: RunRecord) -> str:
    """The conditions of all rows: "digits; 20 steps, uniform grid, eta 0; 128 images; calibration seeds 0, 1; simulated".

    The solver stands there where it is not plain DDIM, as in the protocol.
    """
    known = run.protocol
    sampling = [text.format(known[key]) for key, text in _SAMPLING.items() if key in known]
    facts = [str(known.get("model", "")), ", ".join(sampling)]
    facts.append(f"{known['images']} images" if "images" in known else "")
    return "; ".join(filter(None, [*facts, calibration_seeds(rows_of(run)), "quantization simulated"]))


_SAMPLING = {"solver": "solver {}", "steps": "{} steps", "grid": "{} grid", "eta": "eta {:g}"}


def calibration_seeds(rows: Sequence[Row]) -> str:
    """ "calibration seeds 0 to 4"; with one, that it is all that the verdicts are about."""
    seeds = sorted({cell.seed for row in rows if not row.full_precision for cell in (*row.cells, *row.failed)})
    if len(seeds) == 1:
        return f"one calibration seed ({seeds[0]}): verdicts are about this calibration only"
    return f"calibration seeds {formatting.ranges(seeds)}" if seeds else ""


def amount(c: Comparison) -> str:
    """How much a comparison is about, in words that need no table: "-41 ± 12 %", "+4.2 ± 2.6", "17 times as high".

    Percent of the baseline's value where lower is better and 0 is perfect, since such values have a scale of their own.
    """
    if c.difference is None or c.low is None or c.high is None:
        return c.reason
    share = share_of(c)
    if share is None:
        return formatting.difference(c.difference, c.low, c.high)
    if c.difference * share >= 100 * (TIMES - 1):
        return f"{formatting.significant(1 + c.difference * share / 100, 2)} times as high"
    return f"{formatting.difference(c.difference * share, c.low * share, c.high * share)} %"


def would_have_been_seen(c: Comparison) -> str:
    """The smallest difference that a comparison could have found, in the unit of `amount`."""
    if not c.detectable:
        return ""
    share = share_of(c)
    return formatting.significant(c.detectable, 2) if share is None else f"{formatting.significant(c.detectable * share, 2)} %"


def share_of(c: Comparison) -> float | None:
    """Percent of the baseline's value in one unit of the metric; None where percent mean nothing: what has gone below 0, as an
    unbiased distance may, is not 600 % lower."""
    base = c.baseline_value or 0.0
    return 100 / base if c.better == "lower" and base > 0 and (c.value or 0.0) >= 0 else None


def _bits(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.bits for row in rows))


def _verdicts(run: RunRecord, rows: Sequence[Row]) -> str:
    """The sentence of one bit setting; "" where nothing stands beside the baseline."""
    others = [row for row in rows if row.method != run.baseline]
    if not others or all(row.full_precision for row in rows_of(run) if row.method == run.baseline):
        return ""
    bases = [row for row in rows if row.method == run.baseline]
    if not any(row.cells for row in bases):
        return f"Nothing can be compared: the baseline {run.baseline} {'failed' if bases else 'has no row'} at these bits."
    standings = [Standing(row, tuple(c for c in run.comparisons if _about(c, row))) for row in others]
    alone = [s.label for s in standings if s.row.cells and base_of(s.row, [base for base in bases if base.cells]) is None]
    told = [f"No row of {run.baseline} to compare with: {_listed(alone)}."] if alone else []
    return " ".join([*_groups(run.baseline, standings), *told])


def _about(c: Comparison, row: Row) -> bool:
    return (c.method, c.bits, c.variant) == row.key


def _groups(baseline: str, standings: Sequence[Standing]) -> Iterator[str]:
    better = [s for s in standings if s.of(BETTER) and not s.of(WORSE)]
    mixed = [s for s in standings if s.of(BETTER) and s.of(WORSE)]
    worse = [s for s in standings if s.of(WORSE) and not s.of(BETTER)]
    unclear = [s for s in standings if s.of(UNSEEN) and not s.of(BETTER) and not s.of(WORSE)]
    refused = [s for s in standings if s.of(REFUSED) and len(s.of(REFUSED)) == len(s.found)]
    failed = [s for s in standings if not s.row.cells]
    if better:
        metrics = MOST_METRICS if len(better) <= FEW else 1
        yield f"Better than {baseline}: {_listed([_gain(s, metrics) for s in better], len(better))}."
    elif mixed or worse or unclear:
        yield f"Nothing is seen to beat {baseline}{' without being worse elsewhere' if mixed else ''}."
    if mixed:
        yield f"Better and worse: {_listed([_both(s) for s in mixed])}."
    if unclear:
        yield _unclear(unclear)
    if worse:
        yield f"Worse: {_listed([f'{s.label} ({_amounts(s.of(WORSE), 1)})' for s in worse])}."
    if refused:
        yield f"Not comparable: {_listed([f'{s.label} ({s.found[0].reason})' for s in refused])}."
    if failed:
        yield f"Failed: {_listed([s.label for s in failed])}."


def _gain(s: Standing, metrics: int) -> str:
    """A method that is better somewhere and worse nowhere, and how much of the rest stays open; the first metric by name."""
    unclear = [c.metric for c in s.of(UNSEEN)]
    if not unclear:
        return f"{s.label} ({_amounts(s.of(BETTER), metrics)})"
    named = unclear[0] if unclear[0] == s.found[0].metric else ""
    others = _counted(len(unclear) - bool(named), "other metric" if named else "metric")
    return f"{s.label} ({_amounts(s.of(BETTER), metrics)}; {' and '.join(filter(None, (named, others)))} unclear)"


def _both(s: Standing) -> str:
    return f"{s.label} ({_amounts(s.of(BETTER), 1)}, but {_amounts(s.of(WORSE), 1)})"


def _unclear(standings: Sequence[Standing]) -> str:
    """Methods without any verdict, and what the first metric would have shown of each."""
    metric = standings[0].of(UNSEEN)[0].metric
    seen = [c for s in standings for c in s.of(UNSEEN) if c.metric == metric and c.detectable]
    if len(seen) < len(standings) or len({share_of(c) is None for c in seen}) > 1:
        return f"Not told apart: {_listed([s.label for s in standings])}."
    # Each in percent of its own baseline, which variants may have one of each.
    seen.sort(key=lambda c: (c.detectable or 0.0) * (share_of(c) or 1.0))
    ends = list(dict.fromkeys(would_have_been_seen(c) for c in (seen[0], seen[-1])))
    least = " to ".join([*(end.removesuffix(" %") for end in ends[:-1]), ends[-1]])
    seen_ = f"a difference of {least} in {metric} would have been seen"
    return f"Not told apart: {_listed([s.label for s in standings])} ({seen_})."


def _amounts(found: Sequence[Comparison], most: int) -> str:
    rest = "more metric" if len(found) == most + 1 else "more metrics"
    return _listed([f"{c.metric} {amount(c)}" for c in found], most, rest)


def _listed(words: Sequence[str], most: int = MOST_NAMES, rest: str = "others") -> str:
    """Words in a row; those beyond the first few are counted."""
    if len(words) == most + 1 and rest == "others":
        most += 1
    more = f" and {len(words) - most} {rest}" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}" if number else ""
