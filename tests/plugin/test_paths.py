"""Paths of options start at the recipe's folder; ids of a hub are no paths."""

from __future__ import annotations

import pytest

from ptqbench import Options
from ptqbench.plugin.paths import FOLDER, RecipePath, RecipePathOrId


class Made(Options):
    """Options with paths."""

    path: RecipePathOrId = ""
    images: RecipePath = ""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models" / "ddpm").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("name", ["models/ddpm", "models/dppm", "./x/y", "ddpm", "a/b/c", "../up"])
def test_what_can_only_be_a_path_starts_at_the_recipe(folder, name):
    made = Made.model_validate({"path": name, "images": name}, context={FOLDER: folder})
    assert made.path == made.images == str(folder / name)


def test_an_id_stays_as_it_is_and_whole_paths_do(folder):
    made = Made.model_validate({"path": "google/ddpm-cifar10-32", "images": str(folder)}, context={FOLDER: folder.parent})
    assert (made.path, made.images) == ("google/ddpm-cifar10-32", str(folder))
    assert Made.model_validate({}, context={FOLDER: folder}).images == ""


def test_without_a_recipe_paths_start_at_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert Made(path="models/ddpm").path == str(folder / "models/ddpm")
