"""Claims before kept results: verdicts, corrections, the page, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fakes import SMALL, fake_manager

from ptqbench.cli import cli
from ptqbench.errors import UserError
from ptqbench.findings.document import Claim, Document, Figure, RunEntry, SideBySide, TimeRatio, Topic, read_document
from ptqbench.findings.judge import CONTRADICTED, NO_ANSWER, OPEN, REPRODUCED, answers, compare
from ptqbench.findings.kept import changes, load_records, save_record, silent
from ptqbench.findings.page import render
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.records import PresetRecord
from ptqbench.recipe.describe import describe_methods
from ptqbench.recipe.load import load_experiment
from ptqbench.results.compare import UNSEEN, comparisons
from ptqbench.results.record import Budget, CellRecord, Number, RunRecord, StageCost

BLOCKS = 20


def cell(method: str, seed: int, level: float, protocol: str = "p", variant: str = "") -> CellRecord:
    """A cell whose images have one noise for all methods, so that differences are far sharper than levels."""
    common = np.random.default_rng(0).normal(0, 1.0, BLOCKS)
    own = np.random.default_rng([sum(method.encode()), seed]).normal(0, 0.02, BLOCKS)
    blocks = level + common + own + 0.01 * seed
    replicates = [float(np.delete(blocks, i).mean()) for i in range(BLOCKS)]
    number = Number(float(blocks.mean()), level - 1, level + 1, 200, "lower", {"t": [1.0]}, protocol, replicates)
    name = "/".join(part for part in (method, "W4A8", variant, f"seed{seed}") if part)
    return CellRecord(name, method, "W4A8", variant, seed, "ok", metrics={"error": number}, budget=Budget(10))


def record(*levels: tuple[str, float], protocol: str = "p") -> RunRecord:
    cells = [cell(method, seed, level, protocol) for method, level in levels for seed in (0, 1, 2)]
    return RunRecord("r", "R", "", "base", "0", "2026", {"torch": "2"}, {"steps": 5, "images": 200}, cells)


SAMPLE = record(("base", 5.0), ("good", 4.0), ("bad", 6.0), ("same", 5.001))


def claim(ours: str, *theirs: str, expects: str = "better", run: str = "r") -> Claim:
    others = tuple(f"{name}/W4A8" for name in theirs)
    return Claim(text=f"{ours} wins", run=run, ours=f"{ours}/W4A8", theirs=others, metrics=("error",), expects=expects)


def document(*claims: Claim, **changes) -> Document:
    runs = (RunEntry(name="r", recipe="../recipes/r.toml", overrides=("a=1",)),)
    return Document(title="T", results="kept", runs=runs, topics=(Topic(heading="H", text="words", claims=claims),), **changes)


@pytest.mark.parametrize(
    ("ours", "expects", "outcome"),
    [
        ("good", "better", REPRODUCED),
        ("good", "worse", CONTRADICTED),
        ("bad", "better", CONTRADICTED),
        ("bad", "worse", REPRODUCED),
        ("same", "better", OPEN),
        ("same", "no difference", OPEN),
        ("good", "no difference", CONTRADICTED),
    ],
)
def test_outcomes(ours, expects, outcome):
    (answer,) = answers(document(claim(ours, "base", expects=expects)), {"r": SAMPLE})
    assert answer.outcome == outcome
    assert answer.comparison.difference == pytest.approx({"good": -1, "bad": 1, "same": 0.001}[ours], abs=0.05)


def test_any_two_rows_can_be_compared_not_only_the_baseline():
    found = compare(SAMPLE, "good/W4A8", "bad/W4A8", "error", 1)
    assert found.difference == pytest.approx(-2, abs=0.05)
    assert found.low < found.difference < found.high
    assert found.value - found.baseline_value == pytest.approx(found.difference)


def test_all_comparisons_of_a_question_are_one_family():
    alone = answers(document(claim("good", "base")), {"r": SAMPLE})[0].comparison
    asked = document(claim("good", "base", "same"), claim("bad", "base"))
    several = answers(asked, {"r": SAMPLE})
    assert len(several) == 3
    assert all(a.comparison.p_adjusted >= a.comparison.p for a in several)
    assert several[0].comparison.p == pytest.approx(alone.p)
    assert several[0].comparison.p_adjusted > alone.p_adjusted
    assert several[0].comparison.detectable > alone.detectable, "what could have been seen is corrected like the verdict"
    assert several[0].comparison.low == pytest.approx(alone.low), "intervals are not"
    another = Topic(heading="Another", claims=(claim("bad", "same"),))
    with_another = answers(asked.model_copy(update={"topics": (*asked.topics, another)}), {"r": SAMPLE})
    assert with_another[:3] == several


def test_a_claim_without_metrics_is_asked_in_all_that_its_run_has():
    plain = claim("good", "base").model_copy(update={"metrics": ()})
    other = record(("base", 5.0))
    for done in other.cells:
        done.metrics = {"fid": done.metrics.pop("error")}
    records = {"r": SAMPLE, "other": other}
    (answer,) = answers(document(plain, metrics=("fid", "error")), records)
    assert answer.comparison.metric == "error"
    with pytest.raises(UserError, match="r: the row good/W4A8 has none of the metrics fid"):
        answers(document(plain, metrics=("fid",)), records)
    with pytest.raises(UserError, match="no run has measured eror"):
        answers(document(plain, metrics=("eror", "error")), records)


def test_a_noise_floor_is_shown_whoever_names_the_metric(tmp_path):
    # Values 0.9 and 1.1 in turn with a block of ten left out: 9/10 * 10 * 0.1^2 is their jackknife variance.
    fp = {"error": Number(1.0, 0.9, 1.1, 200, "lower", replicates=[0.9, 1.1] * 5)}
    full = CellRecord("full-precision", "full-precision", "W32A32", "", 0, "ok", metrics=fp)
    with_floor = dataclasses.replace(SAMPLE, cells=[full, *SAMPLE.cells])
    for asked in (document(claim("good", "base")), document(without_metrics("good"), metrics=("error",))):
        page = render(asked, answers(asked, {"r": with_floor}), {"r": with_floor}, {}, tmp_path, "x")
        assert "| noise floor | claim |" in page
        assert "| 0.42" in page


def without_metrics(ours: str) -> Claim:
    return claim(ours, "base").model_copy(update={"metrics": ()})


def test_two_topics_may_ask_the_same(tmp_path):
    made = document(claim("good", "base"))
    again = Topic(heading="Again", claims=(claim("good", "base"), claim("same", "base")))
    made = made.model_copy(update={"topics": (*made.topics, again)})
    page = render(made, answers(made, {"r": SAMPLE}), {"r": SAMPLE}, {}, tmp_path, "x")
    assert "| [H](#h) |  | 1 reproduced |" in page
    assert "| [Again](#again) |  | 1 reproduced, 1 not seen |" in page


def test_rows_of_two_runs_stand_side_by_side(tmp_path):
    """Means over seeds, with the ratio of the second to the first; a row that one run lacks leaves its place empty."""
    records = {"old": record(("base", 5.0), ("good", 4.0)), "new": record(("base", 2.5), ("bad", 6.0))}
    for seed, done in enumerate(records["old"].cells):
        done.metrics["error"] = dataclasses.replace(done.metrics["error"], value=5.0 + seed)
    runs = tuple(RunEntry(name=name, recipe="../recipes/r.toml") for name in records)
    asked = SideBySide(metric="error", runs=("old", "new"))
    page = Document(title="T", results="kept", runs=runs, topics=(Topic(heading="H", values=(asked,)),))
    lines = {line.split(" | ")[0].strip("| "): line for line in render(page, [], records, {}, tmp_path, "c").splitlines()}
    assert lines["error"].strip("| ").split(" | ") == ["error", "old", "new", "ratio"]
    base = [cell.metrics["error"].value for run in ("old", "new") for cell in records[run].cells if cell.method == "base"]
    old, new = np.mean(base[:3]), np.mean(base[3:])
    _, first, second, ratio = lines["base/W4A8"].strip("| ").split(" | ")
    assert (float(first.split()[0]), float(second.split()[0])) == pytest.approx((old, new), abs=0.05)
    assert float(first.split(" / ")[1]) == pytest.approx(1.0, abs=0.05)
    assert float(ratio) == pytest.approx(new / old, abs=0.005)
    assert [part.strip() for part in lines["bad/W4A8"].split("|")][2:5:2] == ["", ""]
    unmeasured = Topic(heading="H", values=(asked.model_copy(update={"metric": "fid"}),))
    with pytest.raises(UserError, match="no row of old has the metric 'fid'"):
        render(page.model_copy(update={"topics": (unmeasured,)}), [], records, {}, tmp_path, "c")


def test_fitting_times_are_on_the_page(tmp_path):
    def timed(done: CellRecord) -> CellRecord:
        seconds = 10.0 * (1 + done.seed) * (2 if done.method == "good" else 1)
        return dataclasses.replace(done, cost={"reconstruct-x": StageCost(seconds, 0.0)})

    cells = [timed(done) for done in SAMPLE.cells]
    records = {"r": dataclasses.replace(SAMPLE, cells=cells)}
    asked = TimeRatio(run="r", ours="good/W4A8", theirs="base/W4A8")
    made = document().model_copy(update={"topics": (Topic(heading="Cost", times=(asked,)),)})
    page = render(made, answers(made, records), records, {}, tmp_path, "x")
    assert "| run | seconds of fitting | mean | against | mean | ratio | n |" in page
    assert "| r | good/W4A8 | 40" in page
    assert "| 2.000 | 3 |" in page or "| 2 | 3 |" in page


@pytest.mark.parametrize(("ours", "outcome"), [("good", "seen"), ("bad", "the opposite seen"), ("same", OPEN)])
def test_what_nobody_published_is_not_reproduced(ours, outcome):
    own = claim(ours, "base").model_copy(update={"published": False})
    (answer,) = answers(document(own), {"r": SAMPLE})
    assert answer.outcome == outcome


def test_words_written_for_other_outcomes_are_refused():
    made = document(claim("good", "base"), claim("same", "base"))

    def counting(**counts: int) -> Document:
        words = {name.replace("_", " "): n for name, n in counts.items()}
        return made.model_copy(update={"topics": (made.topics[0].model_copy(update={"counts": words}),)})

    assert len(answers(counting(reproduced=1, not_seen=1), {"r": SAMPLE})) == 2
    assert len(answers(counting(reproduced=1, not_seen=1, contradicted=0), {"r": SAMPLE})) == 2
    with pytest.raises(UserError, match='"H" was written for other outcomes: 2 not seen; the results say 1 not seen, 1 reprod'):
        answers(counting(not_seen=2), {"r": SAMPLE})


def test_numbers_under_other_protocols_give_no_answer():
    mixed = dataclasses.replace(SAMPLE, cells=[*SAMPLE.cells, *(cell("odd", s, 1.0, "other") for s in (0, 1, 2))])
    (answer,) = answers(document(claim("odd", "base")), {"r": mixed})
    assert answer.outcome == NO_ANSWER
    assert answer.comparison.difference is None
    assert answer.comparison.reason


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (claim("goood", "base"), "no finished row 'goood/W4A8'"),
        (claim("good", "base").model_copy(update={"metrics": ("fid",)}), "no metric 'fid'"),
    ],
)
def test_rows_and_metrics_that_are_not_there_are_named(changed, message):
    with pytest.raises(UserError, match=message):
        answers(document(changed), {"r": SAMPLE})


def test_kept_records_are_light_and_give_the_same_answers(tmp_path):
    path = tmp_path / "kept" / "r.json"
    save_record(SAMPLE, path)
    made = document(claim("good", "base", "bad"))
    kept = load_records(made, tmp_path)
    assert [a.comparison.p for a in answers(made, kept)] == pytest.approx(
        [a.comparison.p for a in answers(made, {"r": SAMPLE})], rel=1e-6
    )
    assert kept["r"].cells[0].metrics["error"].detail == {"t": [1.0]}
    assert kept["r"].cells[0].ledger == []
    assert len(path.read_text().splitlines()) < 40


def test_missing_results_say_how_to_make_them(tmp_path):
    with pytest.raises(UserError, match=r"no kept results: r\.json") as caught:
        load_records(document(claim("good", "base")), tmp_path)
    assert "--run" in caught.value.hint


ALONE = {"mean": 0.176583, "low": None, "high": None, "seeds": 1}
"""A figure of a single calibration seed, as `ptqbench diagnose` writes it."""


def test_the_page_shows_claim_numbers_and_origin(tmp_path):
    arms = [{"arm": "x"}, {"arm": "y", "end": [{}, {"mean": 0.5, "low": 0.4, "high": 0.6, "seeds": 3}]}]
    (tmp_path / "data.json").write_text(json.dumps({"a": arms, "b": ALONE}))
    made = document(claim("good", "base"))
    figure = Figure(text="cosine", file="data.json", key=("a", "arm=y", "end", "1"))
    alone = Figure(text="of one seed", file="data.json", key=("b",))
    topic = {"figures": (figure, alone), "heading": "Is good better?", "answer": "Yes, it is."}
    made = made.model_copy(update={"topics": (made.topics[0].model_copy(update=topic),)})
    page = render(made, answers(made, {"r": SAMPLE}), {"r": SAMPLE}, {"r": "it changed"}, tmp_path, "ptqbench findings x")
    assert "| [Is good better?](#is-good-better) | Yes, it is. | 1 reproduced |" in page
    assert "## Is good better?\n\n**Yes, it is.**\n\nwords" in page
    assert "| metric | good/W4A8 | against | its value |" in page
    (row,) = [line.split(" | ") for line in page.splitlines() if line.startswith("| error")]
    value, against, relative = float(row[1]), float(row[3]), row[5].split(" ")
    assert (row[2], row[-1]) == ("base/W4A8", "**reproduced** |")
    assert float(relative[0].replace("\N{MINUS SIGN}", "-")) == pytest.approx(100 * (value - against) / against, abs=0.1)
    assert "noise floor" not in page, "no metric here has one"
    assert "| cosine | 0.50 ± 0.10 | 3 |\n| of one seed | 0.18 | 1 |" in page
    assert "`ptqbench run recipes/r.toml --set 'a=1'`" in page
    assert "| 2026 | 12 of 12 | 0, 1, 2 | 5 | 200 | 2 | **it changed** |" in page


BROKEN = """
title = "T"
results = "kept"
[[runs]]
name = "Bad name"
recipe = "r.toml"
[[topics]]
heading = "H"
[[topics.claims]]
text = "x"
run = "r"
ours = "a"
theirs = []
metrics = ["m"]
expects = "best"
"""


def test_every_problem_of_a_file_is_reported_with_its_place(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(BROKEN)
    with pytest.raises(UserError) as caught:
        read_document(path)
    for place in ("runs[0].name", "theirs", "expects"):
        assert place in caught.value.message


def test_a_file_that_is_not_there_is_told_as_elsewhere(tmp_path):
    with pytest.raises(UserError, match=r"nope.toml: there is no such file") as caught:
        read_document(tmp_path / "nope.toml")
    assert "Errno" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read: is a directory"):
        read_document(tmp_path)


def test_claims_about_unknown_runs_are_refused(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(BROKEN.replace("Bad name", "other").replace("theirs = []", 'theirs = ["b"]').replace('"best"', '"better"'))
    with pytest.raises(UserError, match="runs that are not there: r"):
        read_document(path)


def test_claims_need_metrics(tmp_path):
    path = tmp_path / "f.toml"
    without = BROKEN.replace("Bad name", "r").replace("theirs = []", 'theirs = ["b"]').replace('"best"', '"better"')
    without = without.replace('metrics = ["m"]\n', "")
    path.write_text(without)
    with pytest.raises(UserError, match="no metrics for the claim 'x'"):
        read_document(path)
    path.write_text('metrics = ["m"]\n' + without)
    assert read_document(path).metrics == ("m",)


def test_the_command_writes_the_page_and_checks_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = '[recipe]\nname = "r"\n'
    (tmp_path / "r.toml").write_text(recipe)
    save_record(dataclasses.replace(SAMPLE, recipe=tomllib.loads(recipe)), tmp_path / "kept" / "r.json")
    (tmp_path / "f.toml").write_text(
        'title = "T"\nresults = "kept"\n[[runs]]\nname = "r"\nrecipe = "r.toml"\n[[topics]]\nheading = "H"\n'
        '[[topics.claims]]\ntext = "x"\nrun = "r"\nours = "good/W4A8"\ntheirs = ["base/W4A8"]\nmetrics = ["error"]\n'
    )

    def call(*args: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["findings", "f.toml", *args])

    assert call("--out", "page.md").exit_code == 0
    assert "reproduced" in (tmp_path / "page.md").read_text()
    assert call("--out", "page.md", "--check").exit_code == 0
    (tmp_path / "r.toml").write_text(recipe + "[sampling]\nsteps = 5\n")
    again = call("--out", "page.md")
    assert again.exit_code == 0
    assert "r: the recipe changed since: sampling; make it anew with `ptqbench findings f.toml --run r`" in again.stderr
    assert "**the recipe changed since: sampling**" in (tmp_path / "page.md").read_text()
    assert call("--out", "page.md", "--check").exit_code == 1
    (tmp_path / "r.toml").write_text(recipe)
    Path(tmp_path / "page.md").write_text("changed")
    stale = call("--out", "page.md", "--check")
    assert stale.exit_code == 1
    assert "is not what" in stale.stdout
    assert call("--check").exit_code == 2
    assert call("--run", "nothing").exit_code == 2


@pytest.mark.parametrize("key", [("b",), ("a", "arm=z"), ("a", "arm=x", "end"), ("a", "7"), ()])
def test_figures_that_are_not_there_are_named(tmp_path, key):
    (tmp_path / "data.json").write_text(json.dumps({"a": [{"arm": "x"}]}))
    made = document(claim("good", "base"))
    topic = made.topics[0].model_copy(update={"figures": (Figure(text="c", file="data.json", key=key),)})
    with pytest.raises(UserError, match=r"data\.json: no figure at"):
        render(made.model_copy(update={"topics": (topic,)}), [], {"r": SAMPLE}, {}, tmp_path, "x")


def test_page_and_table_of_the_run_give_one_interval_for_one_question():
    # The odd row varies far more over its seeds, but its numbers must not stand beside the others'.
    odd = [cell("odd", s, level, "other") for s, level in enumerate((1.0, 5.0, 9.0))]
    mixed = dataclasses.replace(SAMPLE, cells=[*SAMPLE.cells, *odd])
    (inside,) = (c for c in comparisons(mixed) if c.method == "good")
    # In the run's own table, three rows are compared with the baseline.
    found = compare(mixed, "good/W4A8", "base/W4A8", "error", family=3)
    assert found == dataclasses.replace(inside, p_adjusted=None, verdict=UNSEEN)


RECIPE = """
[recipe]
name = "r"
title = "R"
[sampling]
steps = 5
[[published]]
title = "P"
"""


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (RECIPE, ""),
        (RECIPE.replace('"R"', '"Another title"').replace('"P"', '"Q"') + '[report]\nformats = ["csv"]', ""),
        (RECIPE.replace("5", "6") + "[sweep]\nseeds = [1]", "the recipe changed since: sampling.steps, sweep"),
        ("", "its recipe cannot be read: recipes/r.toml: the file is empty"),
        (None, "its recipe cannot be read: recipes/r.toml: there is no such file"),
    ],
)
def test_records_of_another_recipe_are_told(tmp_path, monkeypatch, now, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    if now is not None:
        (tmp_path / "recipes" / "r.toml").write_text(now)
    runs = (RunEntry(name="r", recipe="recipes/r.toml", overrides=("a.b=1",)),)
    kept = dataclasses.replace(SAMPLE, recipe=tomllib.loads(RECIPE) | {"a": {"b": 1}})
    found = changes(document().model_copy(update={"runs": runs}), {"r": kept}, Path())
    assert found == ({"r": said} if said else {})


def test_wrong_overrides_of_a_run_are_named(tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    made = document().model_copy(update={"runs": (RunEntry(name="r", recipe="r.toml", overrides=("nothing",)),)})
    with pytest.raises(UserError, match="the run r has wrong overrides"):
        changes(made, {"r": SAMPLE}, tmp_path)


METHODS = f"""
[recipe]
name = "r"
baseline = "plain"
{SMALL}[methods.plain]
[methods.mine]
method = "bands"
"""


def kept_by(folder: Path, manager: PluginManager) -> tuple[Document, dict[str, RunRecord]]:
    """A document of one run of the recipe above, and the record that it would have kept."""
    (folder / "r.toml").write_text(METHODS)
    experiment = load_experiment(folder / "r.toml", manager=manager)
    cells = [CellRecord(c.id, c.name, c.bits, c.variant, c.seed, "ok") for c in experiment.cells]
    data = {"recipe": dict(experiment.raw), "methods": describe_methods(experiment.cells), "cells": cells}
    stored = json.loads(dataclasses.replace(SAMPLE, **data).to_json())
    runs = (RunEntry(name="r", recipe="r.toml"),)
    return document().model_copy(update={"runs": runs}), {"r": RunRecord.from_json(json.dumps(stored))}


def changed_preset(**tables: Any) -> PluginManager:
    """The fakes with another table of the preset "bands"."""
    manager = fake_manager()
    (old,) = manager._presets
    manager._presets = [PresetRecord(dataclasses.replace(old.preset, table={**old.preset.table, **tables}), old.plugin)]
    return manager


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, ""),
        ({"reconstruction": {"use": "brecq", "iterations": 10}}, "mine/W8A8.reconstruction.iterations"),
        ({"losses": ["output", {"use": "haar", "levels": 4}]}, "mine/W8A8.losses[1].levels"),
        ({"losses": ["output"]}, "mine/W8A8.losses"),
        ({"sampler": "random"}, "mine/W8A8.sampler"),
        ({"weights": {"quantizer": "adaround", "per": "tensor"}}, "mine/W8A8.weights.per"),
    ],
)
def test_a_preset_that_changed_is_told_though_the_recipe_is_the_same(tmp_path, monkeypatch, tables, said):
    made, records = kept_by(tmp_path, fake_manager())
    monkeypatch.setattr("ptqbench.findings.kept.PluginManager", lambda warn: changed_preset(**tables))
    assert changes(made, records, tmp_path) == ({"r": f"its methods resolve to something else now: {said}"} if said else {})
    assert silent(records) == {}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('[methods.mine]\nmethod = "bands"', ""),
        ('[methods.mine]\nmethod = "bands"\nsampler = { points = 4 }\n[defaults.reconstruction]\niterations = 9', ""),
        ('[methods.mine]\nmethod = "bands"\n[defaults.reconstruction]\niterations = 8', "mine/W8A8.reconstruction.iterations"),
        ('[methods.mine]\nmethod = "bands"\n[methods.more]', "more/W8A8"),
        ("", "mine/W8A8"),
    ],
)
def test_how_methods_are_written_does_not_count_but_what_they_resolve_to(tmp_path, monkeypatch, written, said):
    made, records = kept_by(tmp_path, fake_manager())
    (tmp_path / "r.toml").write_text(METHODS.partition("[methods.mine]")[0] + written)
    monkeypatch.setattr("ptqbench.findings.kept.PluginManager", lambda warn: fake_manager())
    found = changes(made, records, tmp_path)
    assert found == ({"r": f"its methods resolve to something else now: {said}"} if said else {})


def test_an_option_that_a_record_does_not_name_counts_where_it_is_given(tmp_path, monkeypatch):
    made, records = kept_by(tmp_path, fake_manager())
    del records["r"].methods["mine/W8A8"]["reconstruction"]["warmup"]
    monkeypatch.setattr("ptqbench.findings.kept.PluginManager", lambda warn: fake_manager())
    assert changes(made, records, tmp_path) == {}
    (tmp_path / "r.toml").write_text(METHODS + "reconstruction = { warmup = 3 }")
    assert changes(made, records, tmp_path)["r"].endswith(": mine/W8A8.reconstruction.warmup")


def test_what_an_old_record_does_not_have_is_no_change_and_is_said(tmp_path, monkeypatch):
    made, records = kept_by(tmp_path, fake_manager())
    monkeypatch.setattr("ptqbench.findings.kept.PluginManager", lambda warn: changed_preset(sampler="random"))
    # Options that did not exist, and rows under other names.
    methods = records["r"].methods
    del methods["plain/W8A8"]["weights"]["steps"]
    methods["mine"] = methods.pop("mine/W8A8")
    assert changes(made, records, tmp_path) == {}
    assert silent(records) == {
        "r": "its record does not say what these resolved to, so changed presets are not seen: mine/W8A8"
    }
    records["r"].methods.clear()
    assert changes(made, records, tmp_path) == {}
    assert silent(records)["r"].endswith("not seen: plain/W8A8, mine/W8A8")


def test_methods_that_no_longer_resolve_are_told(tmp_path, monkeypatch):
    made, records = kept_by(tmp_path, fake_manager())
    monkeypatch.setattr("ptqbench.findings.kept.PluginManager", lambda warn: PluginManager(installed=False, warn=warn))
    (said,) = changes(made, records, tmp_path).values()
    assert said.startswith("its methods cannot be resolved: ")
