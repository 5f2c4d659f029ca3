"""Pipelines that cannot be used: one message and exit code 2, before anything is computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from ptqbench.cli import cli
from ptqbench.errors import UserError
from ptqbench_diffusers import DiffusersOptions
from ptqbench_diffusers.random_pipelines import save_random
from ptqbench_diffusers.source import DiffusersSource

KINDS = {"classes of a transformer": "dit", "empty prompts": "stable-diffusion"}
"""What is spoiled; class-conditional latent diffusion elsewhere."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pipeline of a kind, built once."""
    root = tmp_path_factory.mktemp("random")

    def of(kind: str) -> Path:
        return root / kind if (root / kind).is_dir() else save_random(kind, root / kind, seed=0)

    return of


def spoiled(folder: Path, what: str, edit) -> dict[str, Any]:
    """Spoil a pipeline; returns options that go with it."""
    embedder = folder / "class_embedder"
    if what == "no embedder":
        (embedder / "config.json").unlink()
    elif what == "width":
        edit(embedder / "config.json", embed_dim=16)
    elif what == "classes":
        edit(embedder / "config.json", n_classes=12)
    elif what == "classes of a transformer":
        edit(folder / "transformer" / "config.json", num_embeds_ada_norm=10)
    elif what == "empty prompts":
        (folder / "empty.txt").write_text("\n \n")
        return {"prompts": str(folder / "empty.txt")}
    elif what == "silent":
        edit(embedder / "config.json", n_classes=None)
    elif what.startswith("null class "):
        edit(embedder / "config.json", null_class=json.loads(what.removeprefix("null class ")))
    elif what == "null":
        return {"null_class": 11}
    elif what == "label":
        return {"labels": 40}
    elif what == "prompts":
        return {"prompts": str(folder / "model_index.json")}
    elif what == "nan":
        weights = folder / "vqvae" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(weights)
        tensors["decoder.conv_in.bias"][3] = float("nan")
        save_file(tensors, weights)
    elif what == "size":
        edit(folder / "vqvae" / "config.json", latent_channels=4)
    elif what == "precisions":
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(weights)
        save_file(tensors | {"conv_in.weight": tensors["conv_in.weight"].half()}, weights)
    elif what == "distilled":
        edit(folder / "unet" / "config.json", time_cond_proj_dim=8)
    elif what == "statistics":
        edit(folder / "vqvae" / "config.json", latents_mean=[0.0, 0.0, 0.0])
    elif what == "shard":
        index = {"metadata": {}, "weight_map": {"conv_in.weight": "diffusion_pytorch_model-00002-of-00002.safetensors"}}
        (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return {}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no embedder", "attends to a context, and the pipeline has no class_embedder"),
        ("width", "has tokens of width 16, the denoiser attends to 32"),
        ("classes", "does not fit"),
        ("classes of a transformer", "cannot load DiTTransformer2DModel"),
        ("empty prompts", "holds no prompt"),
        ("silent", "does not state n_classes and embed_dim"),
        ("null class -1", "null_class is -1"),
        ('null class "10"', "null_class is '10'"),
        ("null", "null class 11 is not one of the model's 11"),
        ("label", "class 40 is not one of the model's 11"),
        ("prompts", "is told no text"),
        ("nan", "decoder.conv_in.bias holds values that are not finite"),
        ("size", "the autoencoder reads 4 channels, the denoiser has 3"),
        ("precisions", "holds weights of several precisions: F16, F32"),
        ("statistics", "latents_mean and latents_std are not supported"),
        ("distilled", "time_cond_proj_dim asks for the scale"),
        ("shard", "has no diffusion_pytorch_model-00002-of-00002.safetensors"),
    ],
)
def test_an_unusable_pipeline_is_refused(made, tmp_path, edit, what, said):
    folder, options = broken(made, tmp_path, edit, what)
    with pytest.raises(UserError, match=said) as caught:
        DiffusersSource(DiffusersOptions(path=str(folder), **options)).load(torch.device("cpu"))
    assert caught.value.hint
    assert caught.value.exit_code == 2


def broken(made, tmp_path: Path, edit, what: str) -> tuple[Path, dict[str, Any]]:
    """A spoiled pipeline, and options that go with it."""
    kind = KINDS.get(what, "ldm-class")
    if kind == "stable-diffusion":
        pytest.importorskip("transformers")
    folder = shutil.copytree(made(kind), tmp_path / "pipeline")
    return folder, spoiled(folder, what, edit)


@pytest.mark.parametrize(("what", "said"), [("no embedder", "has no class_embedder"), ("nan", "values that are not finite")])
def test_an_unusable_pipeline_ends_a_run_before_anything_is_computed(made, tmp_path, edit, what, said):
    folder, options = broken(made, tmp_path, edit, what)
    path, cache = tmp_path / "recipe.toml", tmp_path / "cache"
    path.write_text(
        "\n".join(
            [
                '[recipe]\nname = "broken"\nbaseline = "nearest"',
                '[model]\nuse = "diffusers"',
                *(f"{name} = {json.dumps(value)}" for name, value in ({"path": str(folder)} | options).items()),
                "[sampling]\nsteps = 2\nimages = 2",
                "[calibration]\ntrajectories = 2\nsamples = 4",
                '[evaluation]\nmetrics = ["psnr"]',
                "[methods.nearest]",
            ]
        )
    )
    command = ["run", str(path), "--cache", str(cache), "--device", "cpu", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 2, done.output
    flat = " ".join(done.stderr.split())
    assert said in flat
    assert flat.count("error: ") == 1, done.stderr
    assert not list(cache.glob("*/*/*.safetensors"))
