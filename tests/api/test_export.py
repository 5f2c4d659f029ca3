"""`ptqbench export`: a cell of a finished run leaves, and gives the run's images bit for bit."""

from __future__ import annotations

import shutil

import pytest
import torch
from click.testing import CliRunner
from e2ekit import write_recipe

import ptqbench
from ptqbench.cli import cli
from ptqbench.sampling.sample import sample, to_bytes
from ptqbench.stage.context import RunContext, Settings


def invoke(*words: object):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    recipe = write_recipe(folder)
    ptqbench.run(recipe, out=folder / "run", cache=folder / "cache", device="cpu", only=["nearest", "late"])
    return folder, recipe


@pytest.mark.parametrize("cell", ["nearest/W4A8/seed0", "late/W4A8/seed0"])
def test_a_cell_leaves_and_its_images_are_the_runs(place, cell):
    folder, recipe = place
    to = folder / cell.replace("/", "-")
    done = invoke("export", folder / "run", "--cell", cell, "--to", to, "--cache", folder / "cache")
    assert done.exit_code == 0, done.output
    made = ptqbench.load_recipe(recipe)
    ctx = RunContext.of(made, Settings(folder / "cache", "cpu", 1, 1))
    q = ptqbench.load(to, ctx.model.denoiser)
    found = ptqbench.Run.load(folder / "run").quantized(cell, cache=folder / "cache")
    ids = range(4)
    settings = {"seed": made.sampling.seed, "block": "images", "device": ctx.device}
    for one in (q, found):
        predictor = ctx.predictor(one.denoiser, one.context)
        images = to_bytes(ctx.model.decode(sample(predictor, ids, **settings)))
        kept = [p for p in (folder / "cache" / "images").glob("*/result.safetensors")]
        from safetensors.torch import load_file

        assert any(torch.equal(images, load_file(p)["images"]) for p in kept)
    assert q.parts.run["cell"]["id"] == cell


def test_a_lost_cache_is_computed_again(place):
    folder, _ = place
    shutil.rmtree(folder / "again", ignore_errors=True)
    run = ptqbench.Run.load(folder / "run")
    found = run.quantized("late/W4A8/seed0", cache=folder / "another")
    assert found.report.notes == ()


@pytest.mark.parametrize(
    ("cell", "words"),
    [("full-precision", "quantizes nothing"), ("lat/W4A8/seed0", 'did you mean "late/W4A8/seed0"')],
)
def test_what_cannot_leave_is_refused(place, cell, words):
    folder, _ = place
    done = invoke("export", folder / "run", "--cell", cell, "--to", folder / "none", "--cache", folder / "cache")
    assert done.exit_code == 2
    assert words in done.output
    assert not (folder / "none").exists()
