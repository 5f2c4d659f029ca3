"""[defaults]: what reaches which method, in which order, and where its mistakes are said."""

from __future__ import annotations

import pytest
from fakes import fake_manager, recipe

from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Method
from ptqbench.recipe.load import load_experiment

FIT = {"reconstruction": "brecq", "weights": {"quantizer": "adaround"}}
"""The least that a method needs to be fitted."""


def load(defaults: object, *overrides: str, **methods: dict) -> dict[str, Method]:
    raw = recipe() | {"defaults": defaults, "methods": methods}
    raw["recipe"]["baseline"] = "full-precision"
    cells = load_experiment(raw, overrides=overrides, manager=fake_manager()).cells
    return {cell.name + cell.variant: cell.method for cell in cells if cell.method is not None}


def iterations(found: dict[str, Method]) -> dict[str, int]:
    return {name: method.reconstruction.options.model_dump().get("iterations") for name, method in found.items()}


def test_options_go_over_a_preset_and_under_what_methods_say():
    found = load(
        {"reconstruction": {"iterations": 3}},
        preset={"method": "bands"},
        heir={"extends": "preset", "hooks": []},
        own={"method": "bands", "reconstruction": {"iterations": 5}},
        later={"extends": "own"},
        written={**FIT, "reconstruction": {"use": "brecq", "warmup": 7}},
        plain={},
    )
    assert iterations(found) == {"preset": 3, "heir": 3, "own": 5, "later": 5, "written": 3, "plain": None}
    assert found["written"].reconstruction.options.model_dump()["warmup"] == 7


def test_options_follow_the_component_that_a_method_ends_up_with():
    """One that replaces its preset's component, by name alone, takes the defaults of the new one."""
    found = load({"sampler": {"points": 2}}, mine={"method": "bands"}, other={"method": "bands", "sampler": "random"})
    assert [method.sampler.options.model_dump() for method in found.values()] == [{"points": 2}, {}]
    found = load(
        {"reconstruction": {"iterations": 3}}, mine={**FIT}, other={"extends": "mine", **FIT, "reconstruction": "brecq"}
    )
    assert iterations(found) == {"mine": 3, "other": 3}


def test_components_lists_and_grids_go_to_every_method():
    defaults = {"passes": ["skip-split"], "sampler": {"use": "stride", "points": 3}, "weights": {"bits": 3, "range": "mse"}}
    found = load(defaults, "sweep={}", plain={}, mine={"method": "bands", "passes": [], "sampler": {"points": 6}})
    assert [[p.name for p in method.passes] for method in found.values()] == [["skip-split"], []]
    assert [method.sampler.options.model_dump()["points"] for method in found.values()] == [3, 6]
    assert {(method.weights.bits, method.weights.range.name) for method in found.values()} == {(3, "mse")}
    assert found["mine"].weights.quantizer.name == "adaround"


def test_axes_and_overrides_go_over_them():
    axis = 'sweep."methods.*.reconstruction.iterations"=[1, 2]'
    assert iterations(load({"reconstruction": {"iterations": 3}}, axis, mine={"method": "bands"})) == {
        "mineiterations=1": 1,
        "mineiterations=2": 2,
    }
    assert iterations(load({}, "defaults.reconstruction.iterations=4", mine={"method": "bands"})) == {"mine": 4}


def test_a_method_is_what_it_would_be_if_written_out():
    short = load({"reconstruction": {"iterations": 3}, "passes": ["ends"]}, mine={"method": "bands"})["mine"]
    written = {"method": "bands", "reconstruction": {"iterations": 3}, "passes": ["ends"]}
    assert short.key == load({}, mine=written)["mine"].key


BROKEN = {
    "no table": (3, "defaults", "must be a table", "[defaults]"),
    "an unknown key": ({"wieghter": "gacq"}, "defaults.wieghter", "unknown key", 'did you mean "weighter"'),
    "a start": ({"method": "bands"}, "defaults.method", "cannot be a default", "in each method"),
    "an option of no component": (
        {"reconstruction": {"iteratoins": 3}},
        "defaults.reconstruction.iteratoins",
        "no method has a component with this option",
        'did you mean "iterations"',
    ),
    "an option of the grids' components": (
        {"weights": {"range": {"momentum": 0.9}}},
        "defaults.weights.range.momentum",
        "no method has a component with this option",
        "",
    ),
    "a wrong value": ({"reconstruction": {"iterations": 0}}, "defaults.reconstruction.iterations", "at least 1", "steps"),
    "a wrong value of an option that a method's own component takes": (
        {"sampler": {"points": 1000}},
        "defaults.sampler.points",
        "at most 100",
        "",
    ),
    "an unknown component": ({"weighter": "gaqc"}, "defaults.weighter", "there is no weighter", 'did you mean "gacq"'),
    "a wrong type": ({"weights": 3}, "defaults.weights", "must be a table", ""),
    "a wrong grid": ({"activations": {"steps": 11}}, "defaults.activations.steps", "only 10 sampling steps", "at most 10"),
    "a wrong item": ({"passes": ["end"]}, "defaults.passes[0]", "there is no plan pass", 'did you mean "ends"'),
}


@pytest.mark.parametrize(("defaults", "place", "message", "hint"), BROKEN.values(), ids=BROKEN)
def test_a_mistake_is_said_once_where_it_is_written(defaults, place, message, hint):
    with pytest.raises(UserError) as caught:
        load(defaults, a={"method": "bands"}, b={**FIT, "sampler": {"use": "stride"}}, c={"extends": "b"})
    (problem,) = caught.value.problems
    assert problem.place == place
    assert message in problem.message
    assert hint in problem.hint


def test_a_default_may_be_meant_for_a_component_that_is_not_there():
    with pytest.raises(UserError) as caught:
        load({"weighter": {"factor": 2}}, mine={"weighter": "late"})
    assert [problem.place for problem in caught.value.problems] == ["methods.mine.weighter"]


def test_what_a_method_says_itself_stays_its_own_problem():
    with pytest.raises(UserError) as caught:
        load({"reconstruction": {"iterations": 3}}, mine={"method": "bands", "reconstruction": {"iterations": 0}})
    assert [problem.place for problem in caught.value.problems] == ["methods.mine.reconstruction.iterations"]
