"""`sweep.only` and `run --only`: some cells of a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import fake_manager, recipe

from ptqbench.api.run import invocation
from ptqbench.errors import UserError
from ptqbench.recipe.load import load_experiment


def chosen(*only: str) -> list[str]:
    overrides = ("sweep.seeds=[0, 1]", f"sweep.only={list(only)}")
    return [cell.id for cell in load_experiment(recipe(), overrides=overrides, manager=fake_manager()).cells]


def test_full_precision_is_always_there():
    assert chosen("gacq/W4A8/seed1") == ["full-precision", "gacq/W4A8/seed1"]
    assert chosen("full-precision") == ["full-precision"]


def test_the_beginning_of_an_id_means_all_that_follows():
    assert chosen("gacq/W4A8") == ["full-precision", "gacq/W4A8/seed0", "gacq/W4A8/seed1"]
    assert chosen("rtn/", "gacq/W4A8/seed0")[1:] == ["rtn/W4A8/seed0", "rtn/W4A8/seed1", "gacq/W4A8/seed0"]


def test_nothing_chosen_is_everything():
    assert len(chosen()) == 7


@pytest.mark.parametrize("name", ["gacq/W4A", "gac", "gacq/W4A8/seed7"])
def test_a_name_that_fits_no_cell_is_refused(name):
    with pytest.raises(UserError, match="is no cell") as caught:
        chosen(name)
    assert "gacq/W4A8/seed0" in str(caught.value)


def test_the_words_that_repeat_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = load_experiment(recipe(), manager=fake_manager())
    inside = replace(made, path=Path("recipes/x.toml"), overrides=("a.b=1",))
    assert invocation(inside) == ["recipes/x.toml", "--set", "a.b=1"]
    outside = replace(made, path=tmp_path.parent / "y.toml")
    assert invocation(outside, "cpu", 2) == ["y.toml", "--device", "cpu", "--threads", "2"]
    assert invocation(made) == []
