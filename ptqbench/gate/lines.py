"""Findings as columns of text, which all reports for readers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ptqbench.gate.verdicts import Finding, Report, Tier, Verdict
from ptqbench.results import formatting

NOTHING = "\N{EN DASH}"
HEADINGS = ("verdict", "cell", "what", "baseline", "now", "difference", "band", "remark")
ARROWS = {"lower": " \N{DOWNWARDS ARROW}", "higher": " \N{UPWARDS ARROW}"}


def figure(value: float | None) -> str:
    """A figure for a column."""
    return NOTHING if value is None else formatting.significant(value).replace("-", formatting.MINUS)


def change(finding: Finding) -> str:
    """The difference with its interval: "+0.31 ± 0.08"."""
    d = finding.difference
    return NOTHING if d is None else formatting.difference(d.value, d.low, d.high)


def subject(finding: Finding) -> str:
    """What was compared, with an arrow towards the better side."""
    return finding.subject + ARROWS.get(finding.better, "")


def columns(finding: Finding) -> tuple[str, ...]:
    """Entries under `HEADINGS`."""
    band = NOTHING if finding.band is None else f"{formatting.PLUS_MINUS}{formatting.significant(finding.band, 3)}"
    word = f"({finding.verdict})" if finding.informational else str(finding.verdict)
    remark = " ".join(finding.text.split())
    return word, finding.cell, subject(finding), figure(finding.then), figure(finding.now), change(finding), band, remark


def sentence(finding: Finding) -> str:
    """Everything about a finding in one line, for reports without columns."""
    parts = [f"{finding.verdict}: {finding.cell} {subject(finding)}"]
    if finding.then is not None:
        parts.append(f"baseline {figure(finding.then)}, now {figure(finding.now)}")
    if finding.difference is not None:
        parts.append(f"difference {change(finding)} (band {formatting.significant(finding.band or 0.0, 3)})")
    return "; ".join([*parts, *filter(None, [" ".join(finding.text.split())])])


def unchanged(report: Report) -> str:
    """All that is the same, in one line: "same: 3 exact, 8 measured (6 equal to the last stored digit)"."""
    same = [f for f in report.findings if f.verdict is Verdict.SAME]
    if not same:
        return ""
    words = {Tier.EXACT: "exact", Tier.STAT: "measured", Tier.COST: "cost"}
    parts = []
    for tier, group in groupby(sorted(same, key=lambda f: list(Tier).index(f.tier)), key=lambda f: f.tier):
        found = list(group)
        equal = sum(f.text == "equal" for f in found)
        parts.append(f"{len(found)} {words[tier]}" + (f" ({equal} equal to the last stored digit)" if equal else ""))
    return f"same: {', '.join(parts)}"


def reasons(findings: Sequence[Finding], most: int = 3) -> Iterator[str]:
    """What the findings say in words, a line for each text: the first few that share it, and how many more do."""
    by_text: dict[tuple[Verdict, str], list[Finding]] = {}
    for finding in findings:
        if finding.text:
            by_text.setdefault((finding.verdict, " ".join(finding.text.split())), []).append(finding)
    for (verdict, text), group in by_text.items():
        named = ", ".join(f"{f.cell} {f.subject}" for f in group[:most])
        more = f" and {len(group) - most} more" if len(group) > most else ""
        yield f"{verdict}: {named}{more}: {text}"


def remarks(report: Report) -> Iterator[str]:
    """Lines below the table: what is the same, what was not confirmed, and the report's advice."""
    if line := unchanged(report):
        yield line
    yield from (sentence(f) for f in report.findings if f.text.startswith("not confirmed"))
    yield from report.advice
