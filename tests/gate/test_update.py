"""Baselines: the file, tightening, replacing."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from gate_samples import cell, number, run, scaled, steady

from ptqbench.errors import CellFailedError, UserError
from ptqbench.gate import baseline_file
from ptqbench.gate.bands import default_band, set_by_hand
from ptqbench.gate.compare import compare
from ptqbench.gate.snapshot import Change, Measure, Snapshot, snapshot
from ptqbench.gate.update import first_baseline, replaced, tightened
from ptqbench.results.record import CellRecord, RunRecord

BASE = first_baseline(snapshot(steady()), "2026-11-22")


def tighten(now: RunRecord, old: Snapshot = BASE) -> tuple[Snapshot, tuple[str, ...]]:
    seen = snapshot(now)
    update = tightened(seen, old, compare(seen, old))
    return update.baseline, update.changes


def by_hand(old: Snapshot, band: float) -> Snapshot:
    entry = old.cells["fitted/W4A8"]
    metrics = {**entry.metrics, "fd@data": replace(entry.metrics["fd@data"], band=band)}
    return replace(old, cells={**old.cells, "fitted/W4A8": replace(entry, metrics=metrics)})


def test_round_trip_and_stable_text():
    text = baseline_file.dumps(BASE)
    assert baseline_file.loads(text) == BASE
    assert baseline_file.dumps(baseline_file.loads(text)) == text
    assert len(text) < 6000
    assert max(map(len, text.splitlines())) < 256


def test_round_trip_of_strange_text():
    strange = 'quote " back\\slash\nline \x7f \N{UPWARDS ARROW}'
    odd = replace(BASE, history=(Change("2026-11-22", strange),), environment={"a b": True, "c": 1.5e-30, "d": strange})
    assert baseline_file.loads(baseline_file.dumps(odd)) == odd


def test_the_whole_file(tmp_path):
    """What a reader of a pull request sees."""
    metrics = {"psnr@fp": number(20.123456789, __import__("numpy").arange(4.0), n=128, better="higher")}
    small = first_baseline(snapshot(run([cell("plain", 0, metrics)])), "2026-11-22")
    golden = Path(__file__).parent / "golden" / "baseline.toml"
    assert baseline_file.dumps(small) == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("schema = 1", "schema = 9", "schema 9"),
        ("band = ", "bandd = ", "not a baseline"),
        ("n = 512", "", "not a baseline"),
        ("band = ", "band = -", "negative"),
        ("value = ", 'value = "x" #', "must be a number"),
        ("by_seed = [", "by_seed = [true, ", "by_seed must be a number"),
        ('better = "lower"', 'better = "smaller"', "better must be"),
        ("value = ", "value = nan #", "value must be a finite number, not nan"),
        ("seeds = [", "seeds = [[", "not a baseline"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, old, new, words):
    path = tmp_path / "base.toml"
    path.write_text(baseline_file.dumps(BASE).replace(old, new))
    with pytest.raises(UserError, match=words) as caught:
        baseline_file.load(path)
    assert "base.toml" in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read: is a directory"), (b"\xff\xfe", r"cannot be read: not UTF-8 text \(byte 0\)")],
)
def test_a_file_that_cannot_be_read_is_named_once_with_the_reason(tmp_path, content, words):
    path = tmp_path / "base.toml"
    path.write_bytes(content) if content else path.mkdir()
    with pytest.raises(UserError, match=words) as caught:
        baseline_file.load(path)
    assert caught.value.message.count("base.toml") == 1


def test_bands_follow_value_and_error():
    assert default_band(Measure("lower", 10.0, 9.9, 10.1, 100)) == 0.2
    assert default_band(Measure("lower", 0.001, -0.391, 0.393, 100)) == 0.1
    assert not set_by_hand(BASE.cells["plain/W4A8"].metrics["fd@data"])


def test_no_baseline_from_failed_cells():
    record = steady()
    record.cells[0] = CellRecord("plain/W4A8/seed0", "plain", "W4A8", "", 0, "failed", "no memory")
    with pytest.raises(CellFailedError, match="plain/W4A8"):
        first_baseline(snapshot(record), "")


@pytest.mark.parametrize("field", ["value", "low", "high", "replicates"])
def test_a_baseline_never_keeps_what_is_no_number(field):
    record = steady()
    found = record.cells[0].metrics["fd@data"]
    setattr(found, field, [float("nan")] * len(found.replicates) if field == "replicates" else float("inf"))
    for update in (lambda: first_baseline(snapshot(record), ""), lambda: tighten(record)):
        with pytest.raises(CellFailedError, match="no baseline with fd@data of plain/W4A8, which is not finite"):
            update()


def test_tightening_adds_and_takes_what_is_better():
    less = replace(BASE, cells={"plain/W4A8": BASE.cells["plain/W4A8"]})
    grown, changes = tighten(steady(), less)
    assert changes == ("added: fitted/W4A8",)
    assert grown.cells == BASE.cells
    gain, changes = tighten(scaled(steady(), "fitted", "fd@data", 0.7))
    assert changes == ("better value taken: fitted/W4A8 fd@data",)
    before, after = (x.cells["fitted/W4A8"].metrics["fd@data"] for x in (BASE, gain))
    assert after.value < before.value
    assert after.band <= before.band
    assert after.spread <= before.spread


@pytest.mark.parametrize("factor", [1.3, 1.01, 0.99])
def test_tightening_never_accepts_worse_and_leaves_the_same_alone(factor):
    assert tighten(scaled(steady(), "fitted", "fd@data", factor)) == (BASE, ())


def test_tightening_never_loosens_a_band():
    narrow = by_hand(BASE, 0.001)
    after, _ = tighten(scaled(steady(), "fitted", "fd@data", 0.7), narrow)
    assert after.cells["fitted/W4A8"].metrics["fd@data"].band == 0.001
    wide, _ = tighten(scaled(steady(), "fitted", "fd@data", 0.5), by_hand(BASE, 0.2))
    assert wide.cells["fitted/W4A8"].metrics["fd@data"].band < 0.2


def test_tightening_leaves_a_changed_cell_alone():
    gain = scaled(steady(), "fitted", "fd@data", 0.7)
    for found in gain.cells:
        found.ledger_hash += "x"
    assert tighten(gain) == (BASE, ())


def test_a_better_value_is_taken_with_its_codes():
    gain = scaled(steady(), "fitted", "fd@data", 0.7)
    for found in gain.cells:
        found.state_hash += "x"
    after, changes = tighten(gain)
    assert changes == ("better value taken: fitted/W4A8 fd@data",)
    assert after.cells["fitted/W4A8"].state == snapshot(gain).cells["fitted/W4A8"].state
    assert after.cells["plain/W4A8"].state == BASE.cells["plain/W4A8"].state


def test_tightening_needs_the_baselines_seeds_and_noise():
    with pytest.raises(UserError, match="other noise"):
        tighten(steady(image_seed=5))
    fewer = run([c for c in steady().cells if c.seed])
    with pytest.raises(UserError, match="other calibration seeds"):
        tighten(fewer)


def test_what_an_update_on_another_machine_adds_is_not_judged_as_if_it_were_of_the_baselines():
    part, away = steady(), steady()
    part.cells = [c for c in part.cells if c.method == "plain"]
    away.environment["cpu"] = "another"
    for found in away.cells:
        found.state_hash += "-away"
        found.cost["images"].seconds /= 10
    base = first_baseline(snapshot(part), "2026-11-22")
    for made, subjects in ((away, 0), (steady(), 1)):
        new = tightened(snapshot(made), base, compare(snapshot(made), base)).baseline
        report = compare(snapshot(steady()), new, strict_state=True, strict_cost=True)
        assert report.exit_code == 0
        known = [f for f in report.findings if (f.cell, f.subject) == ("fitted/W4A8", "codes and grids")]
        assert len(known) == subjects


def test_replacing_needs_a_reason_and_keeps_bands_set_by_hand():
    worse = snapshot(scaled(steady(), "fitted", "fd@data", 1.3))
    with pytest.raises(UserError, match="reason"):
        replaced(worse, BASE, "2026-12-01", "  ")
    new = replaced(worse, by_hand(BASE, 0.5), "2026-12-01", "a cheaper sampler").baseline
    assert new.history == (Change("2026-11-22", "first baseline"), Change("2026-12-01", "a cheaper sampler"))
    assert new.cells["fitted/W4A8"].metrics["fd@data"].band == 0.5
    assert new.cells["fitted/W4A8"].metrics["fd@data"].value > BASE.cells["fitted/W4A8"].metrics["fd@data"].value
    assert not set_by_hand(new.cells["plain/W4A8"].metrics["fd@data"])
    partial = copy.deepcopy(steady())
    partial.cells = [c for c in partial.cells if c.method == "plain"]
    assert "dropped: fitted/W4A8" in replaced(snapshot(partial), BASE, "", "less").changes
