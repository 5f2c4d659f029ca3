"""Profiles: a recipe's own changes to itself."""

import pytest
from fakes import fake_manager, recipe

from ptqbench.recipe.load import load_experiment
from ptqbench.recipe.problems import RecipeError

SMALL = {
    "model": {"use": "digits", "folder": "small"},
    "sampling": {"steps": 5},
    "methods": {"plain": {"reconstruction": {"iterations": 2}}},
    "sweep": {"bits": ["W8A8"]},
}


def load(profile="", overrides=(), **profiles):
    return load_experiment(recipe() | {"profiles": profiles}, profile=profile, overrides=overrides, manager=fake_manager())


def test_a_profile_goes_over_the_recipe_like_one_method_over_another():
    small = load("small", small=SMALL)
    assert small.sampling.steps == 5
    assert small.sampling.images == 16
    assert small.model.options.folder.endswith("small")
    plain = next(cell.method for cell in small.cells if cell.name == "plain")
    assert plain.reconstruction.options.iterations == 2
    assert plain.sampler.options.points == 5
    assert {cell.bits for cell in small.cells[1:]} == {"W8A8"}
    assert small.name == "trial-small"
    assert "profiles" not in small.raw


def test_a_profile_that_is_not_used_changes_nothing():
    plain = load_experiment(recipe(), manager=fake_manager())
    assert load(small=SMALL).digest == plain.digest
    assert load("small", small=SMALL).digest != plain.digest


def test_overrides_go_over_the_profile_and_a_profile_may_name_itself():
    made = load("small", ["sampling.steps=7"], small=SMALL | {"recipe": {"name": "mine"}})
    assert (made.sampling.steps, made.name) == (7, "mine")


@pytest.mark.parametrize(
    ("profile", "profiles", "said"),
    [
        ("smal", {"small": SMALL}, 'there is no profile "smal"'),
        ("small", {}, 'there is no profile "small"'),
        ("", {"small": 3}, "must be tables"),
        ("small", {"small": {"sampling": {"stepz": 3}}}, "sampling.stepz: unknown key"),
    ],
)
def test_what_is_wrong_with_a_profile_is_told(profile, profiles, said):
    with pytest.raises(RecipeError, match=said):
        load(profile, **profiles)
