"""Observed fits of the toy recipe: the fit is the unobserved one bit by bit, findings are kept, failures are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from enginekit import cell_of, context, experiment, files, recipe

from ptqbench.diagnostics.collect import Collected, collect, read_units
from ptqbench.diagnostics.observer import GradientObserver
from ptqbench.fitting.observer import Observer
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.running.cell import cell_quantizer
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext, Settings


def fitted(ctx: RunContext, name: str, observer: Observer | None = None) -> MethodQuantizer:
    """The quantization stages of a cell."""
    cell = cell_quantizer(ctx, cell_of(ctx, name), Costs(), lambda *_: None, observer)
    cell.run()
    return cell


@pytest.fixture(scope="module")
def ctx(tmp_path_factory) -> RunContext:
    raw = recipe()
    raw["methods"]["mixed"] = {"extends": "qdiffusion", "reconstruction": {"use": "qdrop", "iterations": 3, "batch": 8}}
    made = experiment("methods.gacq.reconstruction.iterations=4", raw=raw)
    return context(tmp_path_factory.mktemp("cache"), made)


@pytest.fixture(scope="module")
def watched(ctx) -> dict[str, tuple[MethodQuantizer, MethodQuantizer]]:
    """Cells fitted without and then with an observer, in one cache."""
    names = ("qdiffusion", "gacq", "mixed")
    return {name: (fitted(ctx, name), fitted(ctx, name, GradientObserver(samples=6, singles=5))) for name in names}


@pytest.mark.parametrize("name", ["qdiffusion", "gacq", "mixed"])
def test_an_observer_changes_no_bit_of_the_fit(watched, name):
    plain, observed = watched[name]
    assert plain.fitted.keys() == observed.fitted.keys() != set()
    for phase, entry in plain.fitted.items():
        other = observed.fitted[phase]
        assert entry.path != other.path
        for file in sorted(path.name for path in entry.path.glob("*.safetensors")):
            ours, theirs = entry.load_tensors(file), other.load_tensors(file)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(value, theirs[key]) for key, value in ours.items()), file
        assert entry.load_json("units.json") == other.load_json("units.json")


@pytest.mark.parametrize("name", ["qdiffusion", "gacq", "mixed"])
def test_what_is_kept_of_each_unit(watched, name):
    plain, observed = watched[name]
    for phase, entry in observed.fitted.items():
        reports = entry.load_json("units.json")
        units = read_units(entry)
        assert [unit.name for unit in units] == [n for n, report in reports.items() if report["iterations"]]
        assert read_units(plain.fitted[phase]) == []
        for unit in units:
            assert unit.observed["cosine"].shape == (5, 5, 5)
            assert (abs(unit.observed["loss"][0]) > 0).any()
            assert ("agreement" in unit.observed) == (name == "gacq")
            assert float(unit.observed["seconds"][0]) > 0


def test_the_exponent_is_that_of_the_phase(watched, ctx):
    """Step sizes are learned with the exponent 2.4; the first measurement must not use the default of 2."""
    _, observed = watched["qdiffusion"]
    seen = []

    class Noting(GradientObserver):
        def _measure(self, params):
            seen.append(self.problem.power)
            super()._measure(params)

    fitted(ctx, "qdiffusion", Noting(samples=2, singles=2))
    assert set(seen) == {2.0, 2.4}
    rounding = len(read_units(observed.fitted["rounding"])) * 5
    assert seen[:rounding] == [2.0] * rounding and set(seen[rounding:]) == {2.4}


def test_a_second_look_reads_the_first(watched, ctx):
    before = files(ctx.cache.root)
    fitted(ctx, "gacq", GradientObserver(samples=6, singles=5))
    assert files(ctx.cache.root) == before


def settings(folder: Path, workers: int = 1) -> Settings:
    return Settings(folder / "cache", "cpu", workers, 1)


def look(folder: Path, *overrides: str, workers: int = 1, methods: tuple[str, ...] = ()) -> Collected:
    made = experiment(*overrides, methods=methods)
    return collect(made, settings(folder, workers), GradientObserver(samples=4, singles=3), lambda *_: None, lambda _: None)


def test_collecting_in_processes_gives_the_same(tmp_path):
    short, methods = "methods.qdiffusion.reconstruction.iterations=3", ("nearest", "gacq", "qdiffusion")
    one = look(tmp_path / "a", short, methods=methods)
    two = look(tmp_path / "b", short, workers=2, methods=methods)
    assert one.unfitted == two.unfitted == ["nearest/W4A8/seed0"]
    assert [(o.cell.id, o.phase) for o in one.observations] == [
        (f"{name}/W4A8/seed0", phase) for name in ("qdiffusion", "gacq") for phase in ("rounding", "steps")
    ]
    for ours, theirs in zip(one.observations, two.observations, strict=True):
        assert ours.entry == theirs.entry and ours.seconds > 0
        for a, b in zip(ours.units, theirs.units, strict=True):
            assert a.name == b.name
            kept = [name for name in a.observed if name != "seconds"]
            assert all((a.observed[name] == b.observed[name]).all() for name in kept)
    stages = {path.parent.name for path in (tmp_path / "a" / "cache").glob("*/*")}
    assert "images" not in stages and "cells" not in stages


def test_a_cell_that_fails_leaves_the_others(tmp_path):
    found = look(tmp_path, "methods.gacq.weighter=refusing", "methods.ptq4dm.weighter=broken")
    assert "the toy weighter refuses" in found.failed["gacq/W4A8/seed0"]
    assert "ZeroDivisionError" in found.failed["ptq4dm/W4A8/seed0"]
    assert {o.cell.name for o in found.observations} == {"qdiffusion"}


def test_a_quantizer_of_which_no_phase_learns_anything_fails_its_cell(tmp_path):
    zeros = "methods.qdiffusion.activations={quantizer='zeros', range='ema'}"
    found = look(tmp_path, zeros, 'sweep.bits=["W32A8"]', methods=("qdiffusion",))
    assert found.unfitted == []
    assert "the quantizer 'zeros' learns 'zero-point', and no phase of 'brecq' does" in found.failed["qdiffusion/W32A8/seed0"]
    assert found.tracebacks == {}  # known before anything ran
