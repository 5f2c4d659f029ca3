"""The second look under fresh seeds, with a stand-in for the engine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from gate_samples import scaled, steady

from ptqbench.gate.compare import compare
from ptqbench.gate.confirm import confirm
from ptqbench.gate.snapshot import Snapshot, snapshot
from ptqbench.gate.update import first_baseline

BASE = first_baseline(snapshot(steady()), "2026-11-22")


@pytest.mark.parametrize(("factor", "code", "words"), [(1.3, 1, "; confirmed: "), (1.0, 0, "not confirmed: ")])
def test_only_what_repeats_is_worse(factor, code, words):
    asked: list[tuple[Sequence[str], Sequence[int]]] = []

    def rerun(cells: Sequence[str], seeds: Sequence[int]) -> Snapshot:
        asked.append((cells, seeds))
        return snapshot(scaled(steady(), "fitted", "fd@data", factor))

    now = snapshot(scaled(steady(), "fitted", "fd@data", 1.4))
    report = confirm(compare(now, BASE), now, BASE, 2, rerun)
    assert asked == [(["fitted/W4A8"], [3, 4])]
    assert report.exit_code == code
    assert any(words in f.text and "fresh seeds 3, 4" in f.text for f in report.findings)


def test_nothing_is_run_for_a_check_that_passes():
    now = snapshot(steady())
    report = compare(now, BASE)
    assert confirm(report, now, BASE, 2, lambda *_: pytest.fail("it was run")) == report


def test_what_is_not_confirmed_needs_no_new_baseline():
    def rerun(cells: Sequence[str], seeds: Sequence[int]) -> Snapshot:
        return snapshot(steady())

    now = snapshot(scaled(steady(), "fitted", "fd@data", 1.4))
    report = compare(now, BASE)
    assert "--replace" in report.advice[-1]
    assert not any("--replace" in words for words in confirm(report, now, BASE, 2, rerun).advice)


def test_what_is_not_finite_is_not_looked_at_again():
    """Fresh seeds that give a number do not undo those that gave none."""
    broken = steady()
    for cell in broken.cells:
        if cell.method == "fitted":
            cell.metrics["fd@data"].value = float("nan")
    report = compare(snapshot(broken), BASE)
    assert confirm(report, snapshot(broken), BASE, 2, lambda *_: pytest.fail("it was run")) == report
    assert report.exit_code == 1
