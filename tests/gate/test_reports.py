"""The reports of a check with every verdict: golden texts, limits, and what other programs read."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from gate_samples import cell, number, scaled, steady

from ptqbench.errors import UserError
from ptqbench.gate import reports
from ptqbench.gate.compare import compare
from ptqbench.gate.snapshot import snapshot
from ptqbench.gate.update import first_baseline
from ptqbench.gate.verdicts import Finding, Report, Tier, Verdict
from ptqbench.results.record import CellRecord

GOLDEN = Path(__file__).parent / "golden"


def everything() -> Report:
    """All verdicts at once."""
    before = steady()
    before.cells.append(cell("gone", 0, {}))
    before.cells.append(cell("broken", 0, {}))
    before.cells.append(cell("other", 0, {"kid": number(1.0, np.arange(20.0) / 100)}))
    now = scaled(scaled(copy.deepcopy(before), "fitted", "fd@data", 1.3), "plain", "eps-error", 0.6)
    now.cells = [c for c in now.cells if c.method not in ("gone", "broken")]
    now.cells.append(CellRecord("broken/W4A8/seed0", "broken", "W4A8", "", 0, "failed", "not finite\n  look at the ranges"))
    now.cells.append(cell("a_new|one", 0, {}))
    for found in now.cells:
        if found.method == "other":
            found.metrics["kid"].protocol = "p2"
            found.weight_bytes = 1024
        if found.method == "plain":
            found.cost["images"].seconds *= 3
            found.state_hash += "+"
    return compare(snapshot(now), first_baseline(snapshot(before), ""), where="baselines/sample.toml")


REPORT = everything()


def test_there_is_every_verdict():
    assert [v for v in Verdict if any(f.verdict is v for f in REPORT.findings)] == list(Verdict)
    assert REPORT.exit_code == 5


@pytest.mark.parametrize(("name", "file"), [("md", "report.md"), ("junit", "report.xml"), ("terminal", "report.txt")])
def test_golden(name, file):
    assert reports.render(REPORT, name) == (GOLDEN / file).read_text(encoding="utf-8")


def test_a_check_that_passes_is_short():
    base = snapshot(steady())
    report = compare(base, first_baseline(base, ""), where="base.toml")
    text = reports.terminal(report)
    assert text.splitlines()[0] == "sample against base.toml: 12 same"
    assert "same: 8 exact, 4 measured (4 equal to the last stored digit), 4 cost" in text
    assert reports.markdown(report).startswith("<!-- ptqbench -->\n## ptqbench: sample passes\n")


def test_a_failing_line_says_all_that_is_needed():
    text = reports.terminal(REPORT, 160)
    line = next(x for x in text.splitlines() if "worse" in x and "fitted/W4A8" in x)
    for words in ("fd@data \N{DOWNWARDS ARROW}", "0.9851", "1.281", "+0.296", "\N{PLUS-MINUS SIGN}"):
        assert words in line
    assert "reproduce: ptqbench run recipes/sample.toml --only fitted/W4A8" in text


def test_numbers_that_cannot_be_compared_are_in_no_report():
    for name in reports.FORMATS:
        lines = [x for x in reports.render(REPORT, name).splitlines() if "kid" in x]
        assert lines
        assert not any("0.9" in x or "1.0" in x for x in lines)


def test_markdown_fits_into_a_comment():
    one = next(f for f in REPORT.findings if f.verdict is Verdict.WORSE)
    many = [replace(one, cell=f"method-{i}/W4A8", command=f"ptqbench run x.toml --only method-{i}/W4A8") for i in range(3000)]
    text = reports.markdown(replace_findings(many))
    assert 20_000 < len(text.encode()) <= reports.MARKDOWN_BYTES
    assert "more; the worst come first." in text
    assert text.startswith(reports.MARKER)


def replace_findings(findings: list[Finding]) -> Report:
    return Report("sample", "base.toml", tuple(findings))


def test_junit_counts():
    suite = ElementTree.fromstring(reports.junit(REPORT))
    assert (suite.get("errors"), suite.get("skipped")) == ("1", "1")
    assert int(suite.get("tests")) == len(suite.findall("testcase"))
    # Worse, changed and missing; a gain, a new cell and a slow machine do not fail.
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 3
    assert "--only fitted/W4A8" in suite.find("testcase/failure").text


def test_junit_is_xml_whatever_a_message_holds():
    broken = Finding(Verdict.FAILED, Tier.EXACT, "a/W4A8", "cell", "\x1b[31mout of memory\x1b[0m \x00 <&>")
    (case,) = ElementTree.fromstring(reports.junit(Report("sample", "a file", (broken,))))
    assert case[0].get("message") == "failed: a/W4A8 cell; [31mout of memory[0m  <&>"


def test_json_has_a_schema():
    data = json.loads(reports.as_json(REPORT))
    assert (data["schema"], data["exit_code"], data["counts"]["worse"]) == (1, 5, 1)
    worse = next(f for f in data["findings"] if f["verdict"] == "worse")
    assert worse["tier"] == "stat"
    assert worse["fails"]
    assert worse["difference"]["low"] > 0


def test_the_suffix_chooses_the_format():
    assert [reports.format_of(Path(f"x{s}")) for s in (".xml", ".md")] == ["junit", "md"]
    with pytest.raises(UserError, match="suffix"):
        reports.format_of(Path("x.html"))


def test_informational_findings_never_fail():
    slow = Finding(Verdict.WORSE, Tier.COST, "x", "seconds", informational=True)
    assert replace_findings([slow]).exit_code == 0
