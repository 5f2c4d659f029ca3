"""Checkpoints of CompVis' latent diffusion: networks of diffusers, renamed as CompVis names them, come back as they were."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from diffusers import LDMPipeline, UNet2DModel
from safetensors.torch import load_file, save_file

from ptqbench.cli import cli
from ptqbench_diffusers import random_parts
from ptqbench_diffusers.random_pipelines import save_random
from ptqbench_diffusers.source import DiffusersOptions, DiffusersSource

LAYERS, HEAD = 1, 8
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def compvis_unet(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A UNet's tensors as CompVis names them, queries, keys and values of each head in one layer."""
    found = {}
    for name, value in fused(state).items():
        stem, kind = name.rsplit(".", 1)
        if stem in ENDS:
            found[f"{ENDS[stem]}.{kind}"] = value
            continue
        side, block, part, rest = re.fullmatch(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(\w+s\.\d+)\.(.+)", name).groups()
        part, layer = part.split(".")
        for ours, theirs in RESNET.items() if part == "resnets" else ():
            rest = rest.replace(ours, theirs)
        place = int(block or 0) * (LAYERS + 1) + int(layer)
        if side == "mid":
            found[f"middle_block.{2 * int(layer) if part == 'resnets' else 1}.{rest}"] = value
        elif part == "downsamplers":
            found[f"input_blocks.{place + LAYERS + 1}.0.{rest.replace('conv', 'op')}"] = value
        elif part == "upsamplers":
            attends = any(f"up_blocks.{block}.attentions" in other for other in state)
            found[f"output_blocks.{place + LAYERS}.{1 + attends}.{rest}"] = value
        else:
            where = f"input_blocks.{place + 1}" if side == "down" else f"output_blocks.{place}"
            found[f"{where}.{int(part == 'attentions')}.{rest}"] = value
    return {f"model.diffusion_model.{name}": value for name, value in found.items()}


def fused(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Attention of a `UNet2DModel` as CompVis has it: one convolution for q, k and v, head by head."""
    if any("attn1" in name for name in state):
        return state
    found = {}
    for name, value in state.items():
        if ".attentions." not in name:
            found[name] = value
        elif ".to_q." in name:
            three = [state[name.replace("to_q", layer)].unflatten(0, (-1, HEAD)) for layer in ("to_q", "to_k", "to_v")]
            together = torch.stack(three, 1).flatten(0, 2)
            found[name.replace("to_q", "qkv")] = together[:, :, None] if value.dim() > 1 else together
        elif ".to_k." not in name and ".to_v." not in name:
            wide = value[:, :, None] if "to_out" in name and value.dim() > 1 else value
            found[name.replace("group_norm", "norm").replace("to_out.0", "proj_out")] = wide
    return found


def compvis_autoencoder(state: dict[str, torch.Tensor], levels: int) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in state.items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.", lambda m: f"up.{levels - 1 - int(m[1])}.", name)
        name = name.replace("resnets", "block") if ".up." in name else name
        name = name.replace("upsamplers.0", "upsample")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        if "mid_block.attentions.0" in name:
            value = value[:, :, None, None] if value.dim() == 2 else value
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            name = re.sub(r"to_([qkv])", r"\1", name).replace("to_out.0", "proj_out")
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        found[f"first_stage_model.{name}"] = value
    return found


def compvis_config(widths: list[int], *, told: bool) -> dict:
    own = {"use_spatial_transformer": True, "transformer_depth": 1, "context_dim": 32, "num_heads": 8} if told else {}
    unet = {
        "image_size": 16,
        "in_channels": 3,
        "out_channels": 3,
        "model_channels": 16,
        "attention_resolutions": [8, 4, 2],
        "num_res_blocks": LAYERS,
        "channel_mult": [width // 16 for width in widths],
        "num_head_channels": HEAD,
        **own,
    }
    coder = {"z_channels": 3, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 8, "ch_mult": [1, 1, 1]}
    stage = {"embed_dim": 3, "n_embed": 64, "ddconfig": {**coder, "num_res_blocks": 1}}
    noise = {"linear_start": 0.0015, "linear_end": 0.0195, "timesteps": 1000}
    return {"model": {"params": {**noise, "unet_config": {"params": unet}, "first_stage_config": {"params": stage}}}}


@pytest.fixture(params=["ldm", "ldm-class"])
def checkpoint(request, tmp_path, monkeypatch) -> tuple[Path, Path, Path]:
    """A pipeline, the same as CompVis' checkpoint, and its configuration. Norms have 32 groups there, and 8 or 4 here."""
    monkeypatch.setattr("ptqbench_diffusers.convert.GROUPS", {"unet": 8, "autoencoder": 4})
    kind = request.param
    widths = [16, 32, 48, 80 if kind == "ldm-class" else 64]

    def deep(size: int, channels: int, _widths: object, _attends: object, **more: object) -> torch.nn.Module:
        return random_parts.unet(size, channels, tuple(widths), (False, True, True, True), **more)

    monkeypatch.setattr("ptqbench_diffusers.random_pipelines.unet", deep)
    folder = save_random(kind, tmp_path / "pipeline", seed=0)
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    coder = load_file(folder / "vqvae" / "diffusion_pytorch_model.safetensors")
    tensors = compvis_unet(unet) | compvis_autoencoder(coder, levels=3)
    # The network that was trained last is not the one that is sampled.
    averaged = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): v
        for name, v in tensors.items()
        if name.startswith("model.")
    }
    if kind == "ldm-class":
        embedder = load_file(folder / "class_embedder" / "diffusion_pytorch_model.safetensors")
        tensors["cond_stage_model.embedding.weight"] = embedder["embedding.weight"]
    last = {name: value + 1 if name.startswith("model.") else value for name, value in tensors.items()}
    save_file({name: value.contiguous() for name, value in (last | averaged).items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(compvis_config(widths, told=kind == "ldm-class")))
    return folder, tmp_path / "model.safetensors", tmp_path / "config.yaml"


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["diffusers", "convert", *map(str, arguments)])
    return done.exit_code, done.output


def test_a_checkpoint_comes_back_as_the_pipeline_that_it_was(checkpoint, tmp_path):
    folder, weights, config = checkpoint
    assert run(weights, "--config", config, "--out", tmp_path / "made")[0] == 0
    for part in (p for p in folder.iterdir() if (p / "diffusion_pytorch_model.safetensors").is_file()):
        before, after = (
            load_file(root / part.name / "diffusion_pytorch_model.safetensors") for root in (folder, tmp_path / "made")
        )
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], value) for name, value in before.items())
    one, two = (
        DiffusersSource(DiffusersOptions(path=str(root))).load(torch.device("cpu")) for root in (folder, tmp_path / "made")
    )
    x, t, cond = torch.randn(2, 3, 16, 16), torch.tensor([3, 700]), one.conditions([0, 1], "cond")
    assert torch.equal(one.call(one.denoiser, x, t, cond), two.call(two.denoiser, x, t, two.conditions([0, 1], "cond")))
    assert torch.equal(one.alphas_cumprod, two.alphas_cumprod)
    assert torch.equal(one.decode(x), two.decode(x))
    assert one.branches == two.branches


def test_pickles_need_trust_and_give_tensors_alone(checkpoint, tmp_path):
    _, weights, config = checkpoint
    pickled, wicked = tmp_path / "model.ckpt", tmp_path / "wicked.ckpt"
    torch.save({"state_dict": load_file(weights), "epoch": 3}, pickled)
    code, said = run(pickled, "--config", config, "--out", tmp_path / "made")
    assert (code, "can run code when it is read" in said) == (2, True)
    assert run(pickled, "--config", config, "--out", tmp_path / "made", "--trust")[0] == 0
    assert LDMPipeline.from_pretrained(tmp_path / "made").unet is not None
    torch.save({"state_dict": {}, "more": print}, wicked)
    code, said = run(wicked, "--config", config, "--out", tmp_path / "worse", "--trust")
    assert (code, "holds print" in said) == (2, True)
    wicked.write_bytes(pickled.read_bytes()[:-1000])
    code, said = run(wicked, "--config", config, "--out", tmp_path / "worse", "--trust")
    assert (code, "cannot read" in said) == (2, True)


class Callback:
    """Stands for what training frameworks save beside tensors."""


@pytest.mark.parametrize("zipped", [True, False])
def test_a_class_in_a_checkpoint_is_named_and_how_to_leave_it_out(checkpoint, tmp_path, zipped):
    _, weights, config = checkpoint
    pickled, stripped = tmp_path / "lightning.ckpt", tmp_path / "tensors.ckpt"
    held = {"state_dict": load_file(weights), "callbacks": [Callback()]}
    torch.save(held, pickled, _use_new_zipfile_serialization=zipped)
    code, said = run(pickled, "--config", config, "--out", tmp_path / "made", "--trust")
    assert (code, f"{Callback.__module__}.Callback" in said) == (2, True), said
    assert "safetensors copy" in said and "complete" not in said
    # What the hint says to do.
    torch.save({"state_dict": torch.load(pickled, weights_only=False, map_location="cpu")["state_dict"]}, stripped)
    assert run(stripped, "--config", config, "--out", tmp_path / "made", "--trust")[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["model"]["params"]["unet_config"]["params"].update(model_channels=24), "does not fit"),
        (lambda c: c["model"]["params"].pop("timesteps"), "does not fit"),
        (lambda c: c["model"]["params"].update(beta_schedule="sqrt"), "beta_schedule 'sqrt' is not known"),
        (lambda c: c["model"]["params"].update(scale_by_std=True), "KeyError: 'scale_factor'"),
        (lambda c: c["model"].pop("params"), "describes no latent diffusion: it lacks 'params'"),
    ],
)
def test_a_configuration_of_another_model_is_refused(checkpoint, tmp_path, change, said):
    _, weights, config = checkpoint
    given = yaml.safe_load(config.read_text())
    change(given)
    config.write_text(yaml.safe_dump(given))
    code, output = run(weights, "--config", config, "--out", tmp_path / "made")
    assert (code, said in " ".join(output.split())) == (2, True), output
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        (
            {"beta_schedule": "cosine", "parameterization": "x0"},
            {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"},
        ),
        (
            {"beta_schedule": "sqrt_linear", "parameterization": "v"},
            {"beta_schedule": "linear", "prediction_type": "v_prediction"},
        ),
        ({"scale_by_std": True, "scale_factor": 1.0}, {"scaling_factor": 0.25}),
        ({"scale_factor": 0.5}, {"scaling_factor": 0.5}),
    ],
)
def test_what_the_configuration_says_of_noise_and_latents_is_followed(checkpoint, tmp_path, changed, wanted):
    _, weights, config = checkpoint
    save_file(load_file(weights) | {"scale_factor": torch.tensor(0.25)}, weights)
    given = yaml.safe_load(config.read_text())
    given["model"]["params"].update(changed)
    config.write_text(yaml.safe_dump(given))
    assert run(weights, "--config", config, "--out", tmp_path / "made")[0] == 0
    files = [tmp_path / "made" / "scheduler" / "scheduler_config.json", tmp_path / "made" / "vqvae" / "config.json"]
    found = {key: value for file in files for key, value in json.loads(file.read_text()).items()}
    assert {key: found[key] for key in wanted} == wanted


@torch.no_grad()
def test_queries_keys_and_values_lie_head_by_head():
    """Against attention as CompVis' `QKVAttentionLegacy` computes it, from one convolution's output."""
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8,
        block_out_channels=(16,),
        down_block_types=("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=HEAD,
    )
    block, x = net.mid_block.attentions[0], torch.randn(2, 16, 8, 8)
    state = fused({f"mid_block.attentions.0.{name}": value for name, value in block.state_dict().items()})
    weights = {name.removeprefix("mid_block.attentions.0."): value for name, value in state.items()}
    flat = x.flatten(2)
    normed = torch.nn.functional.group_norm(flat, 8, weights["norm.weight"], weights["norm.bias"], block.group_norm.eps)
    qkv = torch.nn.functional.conv1d(normed, weights["qkv.weight"], weights["qkv.bias"])
    q, k, v = qkv.reshape(2 * 2, 3 * HEAD, 64).split(HEAD, dim=1)
    scores = (torch.einsum("bct,bcs->bts", q, k) / HEAD**0.5).softmax(-1)
    mixed = torch.einsum("bts,bcs->bct", scores, v).reshape(2, 16, 64)
    out = flat + torch.nn.functional.conv1d(mixed, weights["proj_out.weight"], weights["proj_out.bias"])
    torch.testing.assert_close(block(x), out.reshape(x.shape), rtol=1e-4, atol=1e-5)
