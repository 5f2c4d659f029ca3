"""A method that leaves its network to a library says nothing that the library would not read."""

from __future__ import annotations

import pytest
from fakes import fake_manager, recipe

from ptqbench.recipe.experiment import Experiment
from ptqbench.recipe.load import load_experiment
from ptqbench.recipe.problems import RecipeError


def loaded(method: dict, **sections: dict) -> Experiment:
    raw = recipe()
    raw["methods"]["library"] = method
    for name, section in sections.items():
        raw[name] = {**raw.get(name, {}), **section}
    return load_experiment(raw, manager=fake_manager())


def test_each_key_that_the_library_would_not_read_is_named() -> None:
    weights, activations = {"bits": 4, "quantizer": "adaround", "per": "tensor"}, {"range": "mse", "steps": 2}
    own = {"hooks": ["ptqd"], "passes": ["ends"], "reconstruction": "brecq", "losses": ["haar"], "weighter": "gacq"}
    with pytest.raises(RecipeError) as caught:
        loaded({"network": "library", "sampler": "stride", "weights": weights, "activations": activations, **own})
    places = {p.place for p in caught.value.problems if "would not be read" in p.message and '"library"' in p.message}
    sites = ["weights.quantizer", "weights.per", "activations.range", "activations.steps"]
    assert places == {f"methods.library.{key}" for key in [*own, *sites]}


@pytest.mark.parametrize("start", [{"extends": "plain"}, {"method": "bands"}, {}])
def test_what_is_read_and_what_is_inherited_may_stand(start: dict) -> None:
    method = {"network": "library", "sampler": "stride", "weights": {"bits": 4}, "activations": {"bits": 8}, **start}
    made = loaded(method, defaults={"hooks": ["shift"], "weights": {"range": "mse"}})
    assert "library" in {cell.name for cell in made.cells}


def test_what_the_library_does_not_read_need_not_fit_together() -> None:
    """A learned quantizer where nothing is fitted, and one that learns nothing where something is."""
    for defaults in ({"weights": {"quantizer": "adaround"}}, {"reconstruction": "brecq", "weights": {"quantizer": "nearest"}}):
        raw = recipe()
        raw["recipe"]["baseline"] = "full-precision"
        raw["methods"] = {"library": {"network": "library"}}
        made = load_experiment(raw | {"defaults": defaults}, manager=fake_manager())
        assert "library" in {cell.name for cell in made.cells}


def test_a_learned_part_that_is_not_read_is_told_once() -> None:
    with pytest.raises(RecipeError) as caught:
        loaded({"network": "library", "weighter": "gacq"})
    assert [p.message for p in caught.value.problems if p.place == "methods.library.weighter"] == [
        'would not be read: the method leaves the network to "library" as a whole'
    ]


def test_an_inherited_library_reads_no_more() -> None:
    raw = recipe()
    raw["methods"] |= {"library": {"network": "library"}, "heir": {"extends": "library", "hooks": ["ptqd"]}}
    with pytest.raises(RecipeError) as caught:
        load_experiment(raw, manager=fake_manager())
    assert [p.place for p in caught.value.problems] == ["methods.heir.hooks"]


def test_an_axis_makes_no_rows_that_are_the_same() -> None:
    made = loaded({"network": "library"}, sweep={"methods.*.weights.per": ["tensor", "channel"]})
    assert [cell.name for cell in made.cells].count("library") == 1
    with pytest.raises(RecipeError) as caught:
        loaded({"network": "library"}, sweep={"methods.library.weights.per": ["tensor", "channel"]})
    assert {p.place for p in caught.value.problems} == {'sweep."methods.library.weights.per"'}
