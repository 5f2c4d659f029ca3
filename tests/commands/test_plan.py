"""`plan`: what it prints of a recipe that nobody has run."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result
from e2ekit import write_recipe

from ptqbench.cli import cli
from ptqbench.errors import EXIT_CELL_FAILED


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path)


def plan(recipe, *args: str) -> Result:
    cache = ("--cache", str(recipe.parent / "cache"))
    return CliRunner().invoke(cli, ["plan", str(recipe), "--device", "cpu", *cache, *args], env={"COLUMNS": "160"})


def test_plan_lists_cells_and_layers(recipe):
    result = plan(recipe, "--cell", "late/W4A8/seed0")
    assert result.exit_code == 0, result.output
    out = result.stdout
    assert "toy: 4 cells\ncell " in out
    line = next(line for line in out.splitlines() if line.startswith("gacq/W4A8/seed0"))
    words = ["stride", "gacq", "brecq", "output", "adaround/mse", "lsq/ema", "first-last-8bit,", "skip-split"]
    assert line.split()[1:9] == words
    assert re.search(r"\d (s|min|h)$", line)
    assert "late/W4A8/seed0: " in out
    assert re.search(r"(?m)^up\.conv +4 bit per channel +8 bit per tensor ", out)
    assert "forecast from scratch: " in out
    assert not (recipe.parent / "cache" / "cells").exists()


def test_plan_as_json(recipe):
    data = json.loads(plan(recipe, "--json").stdout)
    assert data["cells"] == ["full-precision", "nearest/W4A8/seed0", "late/W4A8/seed0", "gacq/W4A8/seed0"]
    assert data["layers"]["cell"] == "gacq/W4A8/seed0"
    assert {"first", "last", "up.conv"} <= {row["name"] for row in data["layers"]["rows"]}
    assert data["forecast"]["workers"] >= 1


def test_plan_of_a_cell_that_is_not_there(recipe):
    result = plan(recipe, "--cell", "late/W4A8/seed1")
    assert result.exit_code == 2
    assert 'no cell "late/W4A8/seed1" in this recipe' in result.stderr
    assert 'did you mean "late/W4A8/seed0"' in result.stderr


def test_plan_refuses_what_run_would_refuse(recipe):
    recipe.write_text(recipe.read_text().replace('features = "toy"\n', ""))
    result = plan(recipe)
    assert result.exit_code == 2
    assert 'the metric "fd" reads features, and the recipe names none' in result.stderr


def test_plan_says_of_a_cell_that_cannot_be_done_why(recipe):
    """A quantizer that learns what no phase of the reconstruction does."""
    result = plan(recipe, "--set", 'methods.late.activations={quantizer="zeros", range="ema"}')
    assert result.exit_code == EXIT_CELL_FAILED, result.output
    assert "the quantizer 'zeros' learns 'zero-point', and no phase of 'brecq' does\n" in result.stderr
    assert result.stdout == ""
