"""Loss terms, sampler hooks, and step groups that follow the number of sampling steps."""

from __future__ import annotations

import dataclasses

import pytest
from fakes import fake_manager, recipe

from ptqbench import hookimpl
from ptqbench.recipe.experiment import Method
from ptqbench.recipe.load import load_experiment


def methods(name: str, *overrides: str) -> list[Method]:
    cells = load_experiment(recipe(), overrides=overrides, manager=fake_manager()).cells
    return [cell.method for cell in cells if cell.method is not None and cell.name == name]


def names(bounds) -> list[str]:
    return [bound.name for bound in bounds]


def test_a_method_that_fits_has_the_output_as_its_loss_and_no_hook():
    plain = methods("plain")[0]
    assert [(bound.role, bound.name) for bound in plain.losses] == [("loss", "output")]
    assert plain.hooks == ()


def test_terms_and_hooks_keep_their_order_and_options_and_are_inherited():
    overrides = (
        'methods.plain.losses=[{use="haar", levels=4}, "output"]',
        'methods.plain.hooks=["shift", "ptqd"]',
    )
    child = methods("gacq", *overrides)[0]
    assert names(child.losses) == ["haar", "output"]
    assert child.losses[0].options.model_dump() == {"levels": 4}
    assert [(bound.role, bound.name) for bound in child.hooks] == [("sampler-hook", "shift"), ("sampler-hook", "ptqd")]


def test_terms_and_hooks_are_part_of_what_identifies_a_method():
    plain = methods("plain")[0].key
    assert methods("plain", 'methods.plain.losses=["output", "haar"]')[0].key != plain
    assert methods("plain", 'methods.plain.hooks=["ptqd"]')[0].key != plain
    assert methods("plain", 'methods.plain.losses=["output"]', "methods.plain.hooks=[]")[0].key == plain


@pytest.mark.parametrize("written", ['["output"]', '[{use="output"}]'])
def test_where_nothing_is_fitted_the_default_loss_is_no_mistake_and_not_read(written):
    assert methods("rtn")[0].losses == ()
    assert methods("rtn", f"methods.rtn.losses={written}")[0].losses == ()


def test_where_nothing_is_fitted_the_default_loss_need_not_be_installed(monkeypatch):
    import fakes

    lossless = [component for component in fakes.ptqbench_components() if component.role != "loss"]
    monkeypatch.setattr(fakes, "ptqbench_components", hookimpl(lambda: lossless))
    raw = recipe()
    raw["methods"] = {"plain": {}}
    assert load_experiment(raw, manager=fake_manager()).cells[1].method.losses == ()


def test_an_axis_of_losses():
    axis = 'sweep."methods.plain.losses"=[["output"], ["output", {use="haar", levels=1}]]'
    cells = load_experiment(recipe(), overrides=(axis,), manager=fake_manager()).cells
    assert [cell.variant for cell in cells if cell.name == "plain"] == [
        "losses=[output]",
        "losses=[output,haar(levels=1)]",
    ]


@pytest.mark.parametrize("sampling_steps", [1, 7])
def test_steps_each_is_one_group_for_each_sampling_step(sampling_steps):
    few = ('sampler="random"', "activations.steps=each")
    overrides = [f"methods.plain.{text}" for text in few] + [f"sampling.steps={sampling_steps}", "calibration.samples=8"]
    found = methods("plain", *overrides)[0]
    assert found.activations.steps == sampling_steps
    assert found.activations.key["steps"] == sampling_steps
    assert found.weights.steps == 1


def test_steps_each_means_the_number_of_the_recipe_until_the_solver_says_another():
    axis = 'sweep."methods.plain.activations.steps"=["each", 10, 5]'
    each, ten, five = (method.activations for method in methods("plain", axis))
    assert each.each and dataclasses.replace(each, each=False) == ten != five
    assert each.key != ten.key
