"""The reports of a check: for a terminal, as a markdown step summary, as JUnit XML, and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ptqbench.errors import EXIT_OK, UserError
from ptqbench.gate import lines
from ptqbench.gate.verdicts import Finding, Report, Verdict, commands
from ptqbench.results import console
from ptqbench.results.markdown import escape, lead, table
from ptqbench.results.tables import Cell, Column, Table

SCHEMA = 1
"""Of the JSON report."""

MARKER = "<!-- ptqbench -->"
"""First line of the markdown report, by which a program finds its earlier comment to edit it."""

MARKDOWN_BYTES = 60_000
"""A comment on GitHub may have 64 KiB."""

TEXT_COLUMNS = frozenset({"verdict", "cell", "what"})


def terminal(report: Report, width: int = 100, *, color: bool = False) -> str:
    """Worst first; what is the same in one line; then the commands that reproduce what fails."""
    notes = [*lines.reasons(report.notable), *lines.remarks(report)]
    notes += [f"reproduce: {command}" for command in commands(report.failing)]
    # Cell and metric name a row wherever a wide table is folded; the remarks, which are sentences, stand below.
    order = [lines.HEADINGS.index(x) for x in ("cell", "what", "verdict", "baseline", "now", "difference", "band")]
    columns = [Column(x, x, text=x in TEXT_COLUMNS) for x in (lines.HEADINGS[i] for i in order)]
    rows = [[Cell(texts[i]) for i in order] for texts in map(lines.columns, report.notable)]
    title = f"{report.recipe} against {report.baseline}: {report.summary}"
    found = Table(title, columns if rows else [], rows, notes, list(report.headline))
    return console.render([found], width, color=color)


def markdown(report: Report) -> str:
    """At most 60 000 bytes: what does not fit is counted."""
    ok = report.exit_code == EXIT_OK
    head = f"{MARKER}\n## ptqbench: {report.recipe} {'passes' if ok else 'does not pass'}\n\n{report.summary}\n\n"
    head += lead(report.headline)
    failing = commands(report.failing)
    tail = "".join(f"- {escape(note)}\n" for note in lines.remarks(report))
    for shown in (len(report.notable), *range(min(len(report.notable), 400), -1, -20), 0):
        text = f"{head}{_table(report.notable[:shown], len(report.notable))}{_commands(failing[:shown])}{tail}"
        if len(text.encode()) <= MARKDOWN_BYTES:
            return text
    return head


def junit(report: Report) -> str:
    """A test case for each comparison; what cannot be compared is skipped, a failed cell is an error."""
    suite = ElementTree.Element("testsuite", name=f"ptqbench.{report.recipe}")
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for finding in report.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{report.recipe}.{finding.cell}", name=_case(finding))
        kind, tag = _outcome(report, finding)
        if kind:
            counts[kind] += 1
        if tag:
            text = _printable(lines.sentence(finding))
            node = ElementTree.SubElement(case, tag, {} if tag == "system-out" else {"message": text})
            node.text = f"{text}\n{finding.command}"
    suite.attrib.update({"tests": str(len(report.findings)), **{key: str(value) for key, value in counts.items()}})
    ElementTree.indent(suite)
    # In character references, so that a stream of any code page prints what the declaration says.
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite).decode("ascii") + "\n"


def as_json(report: Report) -> str:
    """All findings, worst first, with the exit code and a schema number."""
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "recipe": report.recipe,
        "baseline": report.baseline,
        "exit_code": report.exit_code,
        "counts": {str(verdict): report.counts[verdict] for verdict in Verdict},
        "headline": [dataclasses.asdict(line) for line in report.headline],
        "notes": list(report.advice),
        "findings": [{**dataclasses.asdict(f), "fails": report.fails(f)} for f in report.findings],
    }
    return json.dumps(data, indent=1) + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {"terminal": terminal, "md": markdown, "json": as_json, "junit": junit}
SUFFIXES = {".txt": "terminal", ".md": "md", ".json": "json", ".xml": "junit"}


def render(report: Report, name: str) -> str:
    """The report in a format of `FORMATS`."""
    return FORMATS[name](report)


def format_of(path: Path) -> str:
    """The format that a file's name asks for. Raises `UserError` for another suffix."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: no report has this suffix", f"one of: {', '.join(SUFFIXES)}")
    return SUFFIXES[path.suffix]


def _table(findings: list[Finding], total: int) -> str:
    if not findings:
        return f"{total} findings do not fit here.\n\n" if total else ""
    rows = [tuple(map(escape, lines.columns(f))) for f in findings]
    more = f"\nand {total - len(findings)} more; the worst come first.\n" if total > len(findings) else ""
    return f"{table(lines.HEADINGS, rows)}\n{more}\n"


def _commands(found: list[str]) -> str:
    return "To reproduce:\n\n```bash\n" + "\n".join(found) + "\n```\n\n" if found else ""


def _printable(text: str) -> str:
    """Without control characters, which XML has no way to write: a library may colour its messages."""
    return "".join(char for char in text if char.isprintable())


def _case(finding: Finding) -> str:
    return f"{finding.subject} ({finding.tier})"


def _outcome(report: Report, finding: Finding) -> tuple[str, str]:
    """JUnit's counter and element for a finding; neither for one that is the same."""
    if finding.verdict is Verdict.SAME:
        return "", ""
    if finding.verdict is Verdict.FAILED:
        return "errors", "error"
    if finding.verdict is Verdict.INCOMPARABLE:
        return "skipped", "skipped"
    return ("failures", "failure") if report.fails(finding) else ("", "system-out")
