"""Correct recipes: defaults, inheritance, sweeps, overrides, and the order of cells."""

from __future__ import annotations

import pytest
from fakes import PRESET, fake_manager, recipe

from ptqbench.recipe.describe import describe_methods
from ptqbench.recipe.experiment import Experiment, Method
from ptqbench.recipe.extend import merge
from ptqbench.recipe.load import digest_of, load_experiment


def load(*overrides: str, raw: dict | None = None) -> Experiment:
    return load_experiment(raw or recipe(), overrides=overrides, manager=fake_manager())


def method(name: str, *overrides: str) -> Method:
    found = next(cell.method for cell in load(*overrides).cells if cell.name == name)
    assert found is not None
    return found


def test_defaults():
    plain = method("rtn")
    assert (plain.sampler.name, plain.weighter.name, plain.reconstruction.name) == ("random", "uniform", "none")
    assert (plain.weights.quantizer.name, plain.weights.range.name) == ("nearest", "minmax")
    assert plain.weights.per == "channel"
    assert (plain.activations.quantizer.name, plain.activations.per) == ("affine", "tensor")
    assert plain.passes == ()
    assert plain.partitioner is None
    experiment = load()
    assert (experiment.sampling.grid, experiment.sampling.batch, experiment.calibration.batch) == (None, 128, 64)
    assert experiment.solver.name == "ddim"
    assert [bound.name for bound in experiment.reporters] == ["markdown"]
    assert experiment.title == "trial"


def test_bits_are_eight_without_a_sweep():
    raw = recipe()
    del raw["sweep"]
    assert [cell.id for cell in load(raw=raw).cells][1] == "rtn/W8A8/seed0"


def test_a_reconstruction_brings_its_partitioner_and_a_recipe_may_choose_another():
    chosen = method("plain").partitioner
    assert chosen is not None
    assert chosen.name == "blocks"
    other = method("plain", "methods.plain.partitioner=layers").partitioner
    assert other is not None
    assert other.name == "layers"


def test_inheritance_keeps_options_and_takes_the_child_s_choice():
    gacq = method("gacq")
    assert gacq.weighter.name == "gacq"
    assert gacq.sampler.options.model_dump() == {"points": 5}
    assert gacq.reconstruction.options.model_dump()["iterations"] == 7
    assert [bound.name for bound in gacq.passes] == ["ends", "skip-split"]


@pytest.mark.parametrize(
    ("parent", "child", "merged"),
    [
        ({"s": "a"}, {"s": "b"}, {"s": "b"}),
        ({"s": {"use": "a", "x": 1}}, {"s": "b"}, {"s": "b"}),
        ({"s": {"use": "a", "x": 1}}, {"s": "a"}, {"s": "a"}),
        ({"s": {"use": "a", "x": 1}}, {"s": {"use": "b", "y": 2}}, {"s": {"use": "b", "y": 2}}),
        ({"s": {"use": "a", "x": 1}}, {"s": {"use": "a", "y": 2}}, {"s": {"use": "a", "x": 1, "y": 2}}),
        ({"s": {"use": "a", "x": 1}}, {"s": {"y": 2}}, {"s": {"use": "a", "x": 1, "y": 2}}),
        ({"s": "a"}, {"s": {"y": 2}}, {"s": {"use": "a", "y": 2}}),
        ({"w": {"bits": 4, "q": "a"}}, {"w": {"q": "b"}}, {"w": {"bits": 4, "q": "b"}}),
        ({"p": [1, 2]}, {"p": [3]}, {"p": [3]}),
        ({}, {"s": {"y": 2}}, {"s": {"y": 2}}),
    ],
)
def test_merge_rules(parent, child, merged):
    before = repr((parent, child))
    assert merge(parent, child) == merged
    assert repr((parent, child)) == before


def test_inheritance_over_two_steps_and_options_of_a_default():
    raw = recipe()
    raw["methods"]["third"] = {"extends": "gacq", "weighter": {"groups": 3}, "passes": []}
    third = next(cell.method for cell in load(raw=raw).cells if cell.name == "third")
    assert third is not None
    assert third.weighter.options.model_dump() == {"groups": 3, "temperature": 1.0, "mode": "paper"}
    assert third.passes == ()


def test_arrays_and_alternatives_in_options_come_from_toml_lists():
    options = method("plain", "methods.plain.reconstruction.betas=[10, 1]", "methods.plain.reconstruction.warmup=5")
    assert options.reconstruction.options.model_dump()["betas"] == (10.0, 1.0)
    assert options.reconstruction.options.model_dump()["warmup"] == 5


def test_cells_come_full_precision_first_then_bits_methods_variants_seeds():
    overrides = ('sweep.bits=["W4A32","W4A8"]', "sweep.seeds=[3,1]", 'sweep."methods.*.weighter.groups"=[5,2]')
    ids = [cell.id for cell in load(*overrides).cells]
    expected = ["full-precision"]
    for bits in ("W4A32", "W4A8"):
        for name in ("rtn", "plain", "gacq/{}/groups=5", "gacq/{}/groups=2"):
            stem = name.format(bits) if "{" in name else f"{name}/{bits}"
            expected += [f"{stem}/seed3", f"{stem}/seed1"]
    assert ids == expected


def test_a_named_axis_touches_its_method_only_and_two_axes_multiply():
    overrides = ('sweep."methods.gacq.weighter.groups"=[1,2]', 'sweep."methods.*.reconstruction.iterations"=[3,4]')
    cells = load(*overrides).cells
    assert [c.variant for c in cells if c.name == "plain"] == ["iterations=3", "iterations=4"]
    variants = [c.variant for c in cells if c.name == "gacq"]
    assert sorted(variants) == sorted(f"groups={g},iterations={i}" for g in (1, 2) for i in (3, 4))
    assert [c.variant for c in cells if c.name == "rtn"] == [""]


def test_an_axis_may_choose_components():
    cells = load('sweep."methods.gacq.weighter"=["uniform", {use="gacq", groups=2}]').cells
    assert [c.variant for c in cells if c.name == "gacq"] == ["weighter=uniform", "weighter=gacq(groups=2)"]


def test_an_axis_of_bits_shows_in_the_bits_alone():
    raw = recipe()
    raw["sweep"] = {"methods.*.weights.bits": [4, 8]}
    ids = [cell.id for cell in load(raw=raw).cells if cell.name == "plain"]
    assert ids == ["plain/W4A8/seed0", "plain/W8A8/seed0"]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("sampling.steps=5", ("sampling", "steps"), 5),
        ("recipe.title=two words", ("recipe", "title"), "two words"),
        ('recipe.title="quoted"', ("recipe", "title"), "quoted"),
        ("recipe.title=a=b", ("recipe", "title"), "a=b"),
        ('sweep.bits=["W2A4"]', ("sweep", "bits"), ["W2A4"]),
        ("methods.gacq.weighter.groups=3", ("methods", "gacq", "weighter"), {"use": "gacq", "groups": 3}),
        ("methods.'gacq'.sampler=random", ("methods", "gacq", "sampler"), "random"),
    ],
)
def test_overrides(override, path, value):
    raw = recipe()
    found = load(override, raw=raw).raw
    for key in path:
        found = found[key]
    assert found == value
    assert raw == recipe()


def test_a_whole_method_may_be_given_on_the_command_line_and_then_changed():
    made = load('methods.new={extends="plain"}', "methods.new.weighter=gacq")
    assert [cell.name for cell in made.cells] == ["full-precision", "rtn", "plain", "gacq", "new"]
    assert made.cells[-1].method.weighter.name == "gacq"


def test_the_digest_follows_content_and_not_order():
    raw = recipe()
    turned = dict(reversed(list(raw.items())))
    assert load(raw=raw).digest == load(raw=turned).digest == digest_of(raw, describe_methods(load().cells))
    assert load("sampling.seed=9").digest != load().digest


def test_the_digest_follows_a_preset_that_the_recipe_only_names(monkeypatch):
    raw = recipe()
    raw["methods"] = {"plain": {"method": "bands"}}
    before = load(raw=raw)
    monkeypatch.setitem(PRESET, "reconstruction", {"use": "brecq", "iterations": 10})
    after = load(raw=raw)
    assert before.raw == after.raw
    assert before.digest != after.digest


def test_every_row_is_described_under_its_own_name():
    cells = load('sweep."methods.plain.reconstruction.iterations"=[2, 5]', 'sweep.bits=["W4A8", "W8A8"]').cells
    found = describe_methods(cells)
    assert {name: found[name]["reconstruction"]["iterations"] for name in found if name.startswith("plain")} == {
        f"plain/{bits}/iterations={n}": n for bits in ("W4A8", "W8A8") for n in (2, 5)
    }
    assert found.keys() == {cell.id.rpartition("/seed")[0] for cell in cells[1:]}


def test_a_description_tells_all_of_a_grid():
    overrides = "methods.plain.weights.symmetric=true", "methods.plain.activations.steps=each"
    found = describe_methods(load(*overrides).cells)["plain/W4A8"]
    grids = [{key: found[site][key] for key in ("bits", "per", "symmetric", "steps")} for site in ("weights", "activations")]
    assert grids == [
        {"bits": 4, "per": "channel", "symmetric": True, "steps": 1},
        {"bits": 8, "per": "tensor", "symmetric": False, "steps": 10},
    ]


def test_full_precision_has_no_calibration_seed_of_its_own():
    assert load("sweep.seeds=[5, 6]").cells[0] == load("sweep.seeds=[0]").cells[0]


def test_published_numbers_are_kept_apart():
    table = 'published=[{title="t", source="s", rows=[{method="A", bits="W4A8", FID=4, IS=9.5}]}]'
    row = load(table).published[0].rows[0]
    assert (row.method, row.bits, row.metrics) == ("A", "W4A8", {"FID": 4.0, "IS": 9.5})


def test_a_qualified_name_resolves():
    assert method("gacq", "methods.gacq.weighter=fakes/gacq").weighter.plugin == "fakes"
