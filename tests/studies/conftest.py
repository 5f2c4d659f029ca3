"""What studies of one row are asked about: a recipe file with one method of the toy model."""

from __future__ import annotations

import pytest
from enginekit import recipe

from ptqbench.recipe.toml_text import value_text


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    data = recipe()
    data["methods"] = {"qdiffusion": data["methods"]["qdiffusion"]}
    data["sweep"]["bits"] = ["W4A32"]
    made = tmp_path_factory.mktemp("row") / "toy.toml"
    made.write_text("\n".join(f"{key} = {value_text(value)}" for key, value in data.items()))
    return made
