"""Each verdict on hand-made runs, and the exit code that it leads to."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from gate_samples import World, cell, number, run, scaled, steady
from scipy.special import stdtrit

from ptqbench.errors import NotComparableError
from ptqbench.gate.compare import compare
from ptqbench.gate.snapshot import Snapshot, snapshot
from ptqbench.gate.tiers import STATE
from ptqbench.gate.update import first_baseline
from ptqbench.gate.verdicts import Finding, Report, Tier, Verdict
from ptqbench.results.record import CellRecord, RunRecord

BASE = steady()


def baseline(record: RunRecord = BASE) -> Snapshot:
    return first_baseline(snapshot(record), "2026-11-22")


def check(now: RunRecord, then: Snapshot | None = None, **options) -> Report:
    return compare(snapshot(now), then or baseline(), **options)


def notable(report: Report) -> list[tuple[str, str, str]]:
    return [(f.verdict, f.cell, f.subject) for f in report.notable if not f.informational]


def only(report: Report) -> Finding:
    found = [f for f in report.notable if not f.informational]
    assert len(found) == 1, found
    return found[0]


def changed(**fields) -> RunRecord:
    """The run with fields of the cells of "fitted" changed."""
    record = copy.deepcopy(BASE)
    for found in record.cells:
        if found.method == "fitted":
            for key, value in fields.items():
                setattr(found, key, value)
    return record


def test_the_same_run_is_the_same():
    report = check(BASE)
    assert report.exit_code == 0
    assert set(report.counts) == {Verdict.SAME}
    # Four exact things and two metrics for each of two cells, and two costs each.
    assert report.counts[Verdict.SAME] == 12


@pytest.mark.parametrize(("factor", "verdict", "code"), [(1.3, "worse", 1), (0.7, "better", 0), (1.01, "same", 0)])
def test_two_sided(factor, verdict, code):
    report = check(scaled(BASE, "fitted", "fd@data", factor))
    assert report.exit_code == code
    if verdict == "same":
        assert not notable(report)
        return
    found = only(report)
    assert (found.verdict, found.cell, found.subject) == (verdict, "fitted/W4A8", "fd@data")
    assert found.difference.how == "images and calibrations paired"
    assert found.difference.low < found.difference.value < found.difference.high
    assert found.command == "ptqbench run recipes/sample.toml --only fitted/W4A8"


def test_higher_may_be_better():
    higher = [cell("plain", s, {"psnr@fp": number(20.0 + 0.01 * s, np.arange(20.0) / 100, better="higher")}) for s in (0, 1)]
    record = run(higher)
    verdicts = [only(check(scaled(record, "plain", "psnr@fp", x), baseline(record))).verdict for x in (0.8, 1.2)]
    assert verdicts == ["worse", "better"]


def test_a_sudden_gain_is_reported_and_fails_only_when_strict():
    gain = scaled(BASE, "fitted", "fd@data", 0.7)
    assert "check the protocol" in only(check(gain)).text
    assert check(gain, strict=True).exit_code == 1


def test_outside_the_band_but_noise_is_the_same():
    """Another image noise makes the comparison unpaired: the same shift is no longer significant."""
    noisy = run([cell("plain", s, {"fd": number(1.0, 2 * np.sin(np.arange(20.0)))}) for s in (0, 1)])
    now = scaled(noisy, "plain", "fd", 1.3)
    now.protocol["image seed"] = 99
    report = check(now, baseline(noisy))
    assert not notable(report)
    assert next(f for f in report.findings if f.subject == "fd").text == "noise"


def test_significant_but_inside_the_band_is_the_same():
    wide = baseline()
    cells = {
        name: replace(e, metrics={k: replace(m, band=9.0) for k, m in e.metrics.items()}) for name, e in wide.cells.items()
    }
    assert not notable(check(scaled(BASE, "fitted", "fd@data", 1.3), replace(wide, cells=cells)))


@pytest.mark.parametrize(
    ("fields", "subject"),
    [({"ledger_hash": "other"}, "bit ledger"), ({"weight_bytes": 1001}, "packed bytes")],
)
def test_exact_changes(fields, subject):
    report = check(changed(**fields))
    found = only(report)
    assert (found.verdict, found.subject, found.tier) == ("changed", subject, "exact")
    assert report.exit_code == 1
    assert check(changed(**fields), wanted={Tier.STAT}).exit_code == 0


def test_other_codes_on_an_equal_machine_are_named_and_fail_only_when_asked_for():
    report = check(changed(state_hash="another"))
    assert report.exit_code == 0
    found = next(f for f in report.notable if f.subject == STATE)
    assert (found.verdict, found.cell, found.informational) == ("changed", "fitted/W4A8", True)
    assert check(changed(state_hash="another"), strict_state=True).exit_code == 1
    assert check(changed(state_hash="another"), wanted={Tier.STAT}, strict_state=True).exit_code == 0


@pytest.mark.parametrize("other", ["cpu", "seeds"])
def test_codes_are_not_compared_where_they_cannot_be_equal(other):
    now = changed(state_hash="another")
    if other == "cpu":
        now.environment["cpu"] = "another processor"
    if other == "seeds":
        for found in now.cells:
            found.seed += 10
    report = check(now, strict_state=True)
    assert report.exit_code == 0
    assert not any(f.subject == STATE and f.cell == "fitted/W4A8" for f in report.findings)
    assert any("codes and grids are not compared" in note for note in report.notes)


def test_a_loss_that_all_seeds_share_is_seen_though_the_seeds_differ_by_more():
    """The spread over seeds is 20 %; the loss of 8 % moves every seed alike."""
    base = World(("plain", "fitted"), ("eps-error",), spread=0.2, noise=0.02).draw(np.random.default_rng(3), range(5))
    worse = scaled(base, "fitted", "eps-error", 1.08)
    found = only(check(worse, baseline(base)))
    assert (found.verdict, found.difference.how) == ("worse", "images and calibrations paired")
    unknown = baseline(base)
    for name, entry in unknown.cells.items():
        metrics = {key: replace(x, by_seed=()) for key, x in entry.metrics.items()}
        unknown.cells[name] = replace(entry, metrics=metrics)
    assert not notable(check(worse, unknown))


def test_pairing_seeds_halves_the_error_of_either_rule():
    """Without any noise of images, half of the interval is Student's t at half of the tail, by hand."""
    sides = ((1.0, 1.3, 1.9), (2.0, 2.35, 2.9))
    records = [run([cell("plain", s, {"m": number(x, np.zeros(20))}) for s, x in enumerate(side)]) for side in sides]
    found = only(check(records[1], baseline(records[0])))
    differences = np.array([1.0, 1.05, 1.0])
    half = stdtrit(2, 1 - 0.03 / 2 / 2) * differences.std(ddof=1) / np.sqrt(3)
    assert found.difference.value == pytest.approx(differences.mean(), rel=1e-5)
    assert found.difference.high - found.difference.value == pytest.approx(half, rel=1e-4)


def test_missing_and_new_cells_and_metrics():
    less = copy.deepcopy(BASE)
    less.cells = [c for c in less.cells if c.method == "plain"]
    report = check(less)
    assert notable(report) == [("missing", "fitted/W4A8", "cell")]
    assert report.exit_code == 1
    more = check(BASE, baseline(less))
    assert notable(more) == [("new", "fitted/W4A8", "cell")]
    assert (more.exit_code, check(BASE, baseline(less), strict=True).exit_code) == (0, 1)
    for found in less.cells:
        del found.metrics["fd@data"]
    assert ("missing", "plain/W4A8", "fd@data") in notable(check(less))
    assert ("new", "plain/W4A8", "fd@data") in notable(check(BASE, baseline(less)))


def test_what_is_missing_is_named_in_the_order_of_the_baseline():
    """A set has another order in each process, so that equal runs would give unequal reports."""
    whole = World(tuple("fedcba"), tuple("zyxwvu")).draw(np.random.default_rng(0), (0, 1))
    part = copy.deepcopy(whole)
    part.cells = [c for c in part.cells if c.method == "f"]
    for found in part.cells:
        found.metrics = {}
    missing = [f"{name}/W4A8 cell" for name in "edcba"] + [f"f/W4A8 {name}" for name in "zyxwvu"]
    for now, then, word in ((part, whole, "missing"), (whole, part, "new")):
        assert [f"{cell} {what}" for verdict, cell, what in notable(check(now, baseline(then))) if verdict == word] == missing


@pytest.mark.parametrize(
    ("field", "value", "words"), [("protocol", "p2", "another protocol"), ("n", 1024, "512 samples"), ("protocol", "", "id")]
)
def test_incomparable_numbers_are_never_a_pair(field, value, words):
    other = copy.deepcopy(BASE)
    for found in other.cells:
        setattr(found.metrics["fd@data"], field, value)
    report = check(other)
    bad = [f for f in report.findings if f.verdict is Verdict.INCOMPARABLE]
    assert [f.subject for f in bad] == ["fd@data", "fd@data"]
    assert all((f.then, f.now, f.difference) == (None, None, None) for f in bad)
    assert words in bad[0].text
    assert report.exit_code == 4
    assert not [f for f in report.findings if f.subject == "fd@data" and f.verdict is not Verdict.INCOMPARABLE]


def test_numbers_without_a_protocol_on_either_side_are_incomparable_and_costs_are_not():
    bare = copy.deepcopy(BASE)
    for found in bare.cells:
        found.metrics["fd@data"].protocol = ""
    report = check(bare, baseline(bare))
    bad = [f for f in report.findings if f.subject == "fd@data"]
    assert [f.verdict for f in bad] == [Verdict.INCOMPARABLE, Verdict.INCOMPARABLE]
    assert all("no protocol id on either side" in f.text for f in bad)
    assert report.exit_code == 4
    costs = [f for f in report.findings if f.tier is Tier.COST]
    assert costs, "costs have no protocol and need none"
    assert Verdict.INCOMPARABLE not in {f.verdict for f in costs}


def test_a_failed_cell_comes_first():
    broken = scaled(BASE, "plain", "fd@data", 1.5)
    broken.cells[-1] = CellRecord("fitted/W4A8/seed2", "fitted", "W4A8", "", 2, "failed", "out of memory")
    report = check(broken)
    assert [f.verdict for f in report.notable] == ["failed", "worse"]
    assert report.notable[0].text == "seed 2: out of memory"
    assert report.exit_code == 5


def test_a_failed_cell_alone_is_not_told_how_to_become_the_baseline():
    broken = copy.deepcopy(BASE)
    broken.cells[-1].status = "failed"
    report = check(broken)
    assert report.exit_code == 5 and not any("--replace" in words for words in report.advice)


def test_nothing_in_common_is_refused():
    other = run([cell("stranger", 0, {"fd@data": number(1.0, np.arange(20.0))})])
    with pytest.raises(NotComparableError, match="no cell in common"):
        check(other)


def test_other_seeds_need_a_baseline_that_knows_their_spread():
    one = run([c for c in BASE.cells if c.seed == 0])
    other = run([c for c in BASE.cells if c.seed == 1])
    report = check(other, baseline(one))
    assert {f.verdict for f in report.notable} == {"incomparable"}
    assert "one seed" in report.notable[0].text
    assert {f.subject for f in check(other).failing} == {"calibration seeds"}
    assert any("one calibration seed" in note for note in check(one, baseline(one)).notes)


def test_numbers_that_are_not_finite_are_worse():
    broken = copy.deepcopy(BASE)
    for found in broken.cells:
        if found.method == "plain":
            found.metrics["fd@data"].value = float("nan")
    assert only(check(broken)).verdict == "worse"


def slow(factor: float, **environment: object) -> RunRecord:
    record = copy.deepcopy(BASE)
    for found in record.cells:
        found.cost["images"].seconds *= factor
        found.cost["images"].peak_mib *= factor
    record.environment |= environment
    return record


def test_a_slower_machine_never_fails():
    for now in (slow(5.0), slow(5.0, cpu="another")):
        report = check(now, strict=True)
        assert report.exit_code == 0
        assert {f.subject for f in report.notable} == {"seconds", "memory (MiB)"}
    assert check(slow(5.0, cpu="another"), strict_cost=True).exit_code == 0
    assert check(slow(5.0, ptqbench="2"), strict_cost=True).exit_code == 1
    assert check(slow(0.2), strict_cost=True, strict=True).exit_code == 0


def test_a_record_that_does_not_name_its_processor_never_fails_on_cost():
    anonymous = baseline()
    environment = {key: value for key, value in anonymous.environment.items() if key != "cpu"}
    now = slow(5.0)
    del now.environment["cpu"]
    assert check(now, replace(anonymous, environment=environment), strict_cost=True).exit_code == 0


def test_worst_first():
    broken = scaled(scaled(BASE, "fitted", "fd@data", 1.4), "plain", "eps-error", 1.8)
    broken.cells[0].weight_bytes = 1
    broken = scaled(broken, "fitted", "eps-error", 0.5)
    order = [(f.verdict, f.cell) for f in check(broken).notable]
    assert order == [("worse", "plain/W4A8"), ("worse", "fitted/W4A8"), ("better", "fitted/W4A8")]


def test_a_note_says_when_the_recipe_changed():
    other = replace(baseline(), digest="e")
    assert any("recipe was changed" in note for note in check(BASE, other).notes)


def test_fewer_seeds_than_the_baseline_are_a_change_that_fails():
    fewer = copy.deepcopy(BASE)
    fewer.cells = [found for found in fewer.cells if found.seed == 0]
    report = check(fewer)
    assert report.exit_code == 1
    found = [f for f in report.failing if f.verdict is Verdict.CHANGED]
    assert {(f.cell, f.subject) for f in found} == {(name, "calibration seeds") for name in ("plain/W4A8", "fitted/W4A8")}
    assert found[0].text == "the baseline has 3 (0 to 2), the run 1 (0)"
    assert not [f for f in check(BASE, baseline(fewer)).failing if f.verdict is Verdict.CHANGED]


def test_fewer_images_than_the_baseline_are_a_change_and_more_cannot_be_compared():
    def counted(n: int) -> RunRecord:
        record = copy.deepcopy(BASE)
        for found in record.cells:
            found.metrics["fd@data"].n = n
        return record

    fewer, more = check(counted(256)), check(counted(1024))
    assert (fewer.exit_code, more.exit_code) == (1, 4)
    assert {(f.verdict, f.subject, f.now) for f in fewer.failing} == {(Verdict.CHANGED, "fd@data", None)}
    assert {f.verdict for f in more.failing} == {Verdict.INCOMPARABLE}


def test_codes_and_grids_that_are_no_longer_hashed_are_a_change():
    assert check(changed(state_hash="")).exit_code == 1
    assert notable(check(changed(state_hash=""))) == [("changed", "fitted/W4A8", STATE)]
    assert check(BASE, baseline(changed(state_hash=""))).exit_code == 0
