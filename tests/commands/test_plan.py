"""`plan`: what it prints of a recipe that nobody has run."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result
from e2ekit import write_recipe

from ptqbench.cli import cli
from ptqbench.commands.plan import _blocks
from ptqbench.errors import EXIT_CELL_FAILED


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path)


def plan(recipe, *args: str) -> Result:
    cache = ("--cache", str(recipe.parent / "cache"))
    return CliRunner().invoke(cli, ["plan", str(recipe), "--device", "cpu", *cache, *args], env={"COLUMNS": "160"})


def test_plan_shows_times_by_bits_and_folds_layers_by_grid(recipe):
    result = plan(recipe, "--set", "sweep.bits=['W4A32', 'W4A8']", "--set", "sweep.seeds=[0, 1]", "--cell", "late/W4A8/seed0")
    assert result.exit_code == 0, result.output
    out = result.stdout
    assert "toy: 13 cells of 2 seeds" in out
    assert re.search(r"(?m)^method +W4A32 +W4A8$", out)
    assert re.search(r"(?m)^gacq( +\d+ (s|min|h)){2}$", out)
    assert "late/W4A8/seed0: " in out
    # All layers, by their grids: the two ends at 8 bits, skip concatenations in parts, the others.
    folded = re.findall(r"(?m)^ +(\d+) +(\d bit per channel) +8 bit per tensor +(.*?) *\d+\.\d% +(.*)$", out)
    assert sum(int(count) for count, *_ in folded) == len(ledger(recipe))
    assert ("1", "8 bit per channel", "first-last-8bit: last layer", "last") in folded
    assert any(why == "skip-split" and blocks.startswith("up") for _, _, why, blocks in folded)
    assert "forecast from scratch: " in out
    assert len(out.splitlines()) < 30
    assert not (recipe.parent / "cache" / "cells").exists()


def test_plan_lists_every_layer_on_request(recipe):
    out = plan(recipe, "--cell", "late/W4A8/seed0", "--layers").stdout
    assert re.search(r"(?m)^up\.conv +4 bit per channel +8 bit per tensor ", out)
    assert all(re.search(rf"(?m)^{re.escape(row['name'])} ", out) for row in ledger(recipe))


def test_numbered_blocks_of_one_name_stand_together():
    names = ["time.linear", "down.0.a", "down.2.b", "down.1.c", "up.0.a", "up.2.a", "conv"]
    assert list(_blocks(names)) == ["time", "down.0-2", "up.0,2", "conv"]


def ledger(recipe) -> list[dict]:
    """The rows of layers, without sites of attentions."""
    rows = json.loads(plan(recipe, "--cell", "late/W4A8/seed0", "--json").stdout)["layers"]["rows"]
    return [row for row in rows if "site" not in row]


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
