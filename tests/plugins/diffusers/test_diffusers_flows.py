"""Stable Diffusion 3 and Flux: latents and images against diffusers' own pipelines, what is quantized, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from ptqbench.errors import UserError
from ptqbench.quant.plan import Probe
from ptqbench.quant.probe import probe_denoiser
from ptqbench.quant.units import BLOCK_CLASSES, outermost_blocks
from ptqbench.sampling.rng import NoiseSource
from ptqbench.sampling.sample import sample
from ptqbench.stage.predictor import Predictor
from ptqbench_diffusers import DiffusersOptions
from ptqbench_diffusers.random_pipelines import save_random
from ptqbench_diffusers.random_text import FLUX_SIZE, PROMPTS
from ptqbench_diffusers.source import DiffusersSource
from ptqbench_solvers import FlowEulerOptions
from ptqbench_solvers.flow import FlowEuler

pytest.importorskip("transformers")

CPU = torch.device("cpu")
STEPS, IDS, SEED = 4, [0, 1, 9], 5
SD3, FLUX = "stable-diffusion-3", "flux"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {kind: save_random(kind, tmp_path_factory.mktemp("random") / kind, seed=0) for kind in (SD3, FLUX)}


@pytest.fixture
def folder(request, tmp_path) -> Path:
    """A pipeline of its own, to be changed."""
    return save_random(request.param, tmp_path / request.param, seed=0)


def source(folder: Path, **options: Any) -> DiffusersSource:
    size = {"size": FLUX_SIZE} if folder.name == FLUX else {}
    return DiffusersSource(DiffusersOptions(path=str(folder), prompts=str(folder / "prompts.txt"), **(size | options)))


@dataclass
class Both:
    """Latents (N, C, H, W) and images in [0, 1], of this program and of diffusers' pipeline."""

    ours: torch.Tensor
    theirs: torch.Tensor
    our_images: torch.Tensor
    their_images: torch.Tensor

    def assert_same(self) -> None:
        assert float((self.ours - self.theirs).abs().max()) <= 1e-5 * max(1.0, float(self.theirs.abs().max()))
        torch.testing.assert_close(self.our_images, self.their_images, rtol=1e-4, atol=1e-4)


def both(folder: Path, guidance: float, grid: str, absent: Sequence[str] = (), **call: Any) -> Both:
    model = source(folder).load(CPU).guided(guidance)
    schedule = FlowEuler(FlowEulerOptions()).schedule(model.alphas_cumprod, grid, STEPS, 0.0)
    ours = sample(Predictor(model, model.denoiser, schedule), IDS, seed=SEED, block="images", device=CPU)
    noise = NoiseSource(SEED, "images", IDS, model.shape).draw()
    packed = folder.name == FLUX
    pipeline = DiffusionPipeline.from_pretrained(folder, **dict.fromkeys(absent))
    pipeline.set_progress_bar_config(disable=True)
    latents: list[torch.Tensor] = []

    def noted(_: Any, s: int, __: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        latents.append(tensors["latents"])
        return tensors

    images = pipeline(
        [PROMPTS[i % len(PROMPTS)] for i in IDS],
        height=FLUX_SIZE,
        width=FLUX_SIZE,
        guidance_scale=guidance,
        num_inference_steps=STEPS,
        latents=noise.flatten(2).transpose(1, 2) if packed else noise,
        callback_on_step_end=noted,
        output_type="pt",
        **call,
    ).images
    theirs = latents[-1].transpose(1, 2).reshape(noise.shape) if packed else latents[-1]
    return Both(ours, theirs, (model.decode(ours) + 1) / 2, images)


@pytest.mark.parametrize("guidance", [1.0, 4.5])
def test_stable_diffusion_3_is_its_pipeline(folders, guidance):
    both(folders[SD3], guidance, "linspace").assert_same()


@pytest.mark.parametrize("folder", [SD3], indirect=True)
def test_stable_diffusion_3_may_lack_t5(folder, edit):
    edit(folder / "model_index.json", text_encoder_3=[None, None], tokenizer_3=[None, None])
    both(folder, 4.5, "linspace", absent=["text_encoder_3", "tokenizer_3"]).assert_same()
    told = source(folder).load(CPU).conditions([0], "cond")["encoder_hidden_states"]
    assert not told[:, -256:].any()
    assert told[:, :-256].any()


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_flux_is_its_pipeline(folders, guidance):
    found = both(folders[FLUX], guidance, "trailing")
    found.assert_same()
    assert found.our_images.shape[1:] == (3, FLUX_SIZE, FLUX_SIZE)


@pytest.mark.parametrize("folder", [FLUX], indirect=True)
def test_flux_without_guidance_is_the_distilled_one(folder, edit):
    """FLUX.1-schnell: no scale to be told, fewer tokens, levels that are not shifted by resolution."""
    edit(folder / "transformer" / "config.json", guidance_embeds=False)
    edit(folder / "scheduler" / "scheduler_config.json", use_dynamic_shifting=False, shift=1.0)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: value for name, value in load_file(weights).items() if "guidance_embedder" not in name}, weights)
    both(folder, 1.0, "trailing", max_sequence_length=256).assert_same()
    with pytest.raises(UserError, match="no unconditional branch"):
        source(folder).load(CPU).guided(3.5)


def test_flux_is_told_its_scale_in_one_branch(folders):
    model = source(folders[FLUX]).load(CPU)
    with pytest.raises(UserError, match="is told the scale of its guidance") as caught:
        model.guided(None)
    assert "sampling.guidance" in caught.value.hint
    told = model.guided(3.5)
    assert told.branches == ("cond",)
    assert told.conditions([0, 1], "cond")["guidance"].tolist() == [3.5, 3.5]
    assert source(folders[SD3]).load(CPU).guided(3.5).branches == ("cond", "uncond")


def test_without_guidance_stable_diffusion_3_is_what_it_is_with_a_scale_of_one(folders):
    model = source(folders[SD3]).load(CPU)
    schedule = FlowEuler(FlowEulerOptions()).schedule(model.alphas_cumprod, "linspace", 2, 0.0)
    found = []
    for scale in (None, 1.0):
        guided = model.guided(scale)
        found.append(sample(Predictor(guided, guided.denoiser, schedule), IDS, seed=1, block="images", device=CPU))
    assert torch.equal(*found)


def probed(folder: Path) -> tuple[torch.nn.Module, Probe]:
    model = source(folder).load(CPU).guided(2.0)
    x, t = torch.randn(2, *model.shape), torch.full((2,), 500.0)
    cond = model.conditions(range(2), "cond")
    return model.denoiser, probe_denoiser(model.denoiser, lambda: model.call(model.denoiser, x, t, cond), x)


JOINT = {
    SD3: (
        ["transformer_blocks.0.attn", "transformer_blocks.0.attn2", "transformer_blocks.1.attn"],
        ["transformer_blocks.0", "transformer_blocks.1"],
        "pos_embed.proj",
    ),
    FLUX: (
        ["transformer_blocks.0.attn", "single_transformer_blocks.0.attn"],
        ["transformer_blocks.0", "single_transformer_blocks.0"],
        "x_embedder",
    ),
}


@pytest.mark.parametrize("kind", JOINT)
def test_joint_attention_is_seen_and_blocks_are_units(folders, kind):
    attentions, blocks, first = JOINT[kind]
    denoiser, probe = probed(folders[kind])
    assert [attention.name for attention in probe.attentions] == attentions
    assert not probe.unseen
    assert not probe.softmaxes
    units = dict(outermost_blocks(denoiser, probe, BLOCK_CLASSES))
    assert [name for name, layers in units.items() if layers != (name,)] == blocks
    assert {layer for layers in units.values() for layer in layers} == {layer.name for layer in probe.layers}
    assert [layer.name for layer in probe.layers if layer.reads_input] == [first]
    assert probe.layers[-1].name == "proj_out"
    # adaLN of a block is the block's own, embedders and the last modulation are units of their own.
    assert any("norm1.linear" in layer for layer in units[blocks[0]])
    assert {"norm_out.linear", "context_embedder", "time_text_embed.timestep_embedder.linear_1"} <= units.keys()


def spoiled(folder: Path, what: str, edit) -> dict[str, Any]:
    """Spoil a pipeline; returns options that go with it."""
    scheduler, transformer = folder / "scheduler" / "scheduler_config.json", folder / "transformer" / "config.json"
    if what == "diffusion":
        edit(scheduler, _class_name="DDIMScheduler")
    elif what == "karras":
        edit(scheduler, use_karras_sigmas=True)
    elif what == "shift":
        edit(scheduler, shift=-1.0, use_dynamic_shifting=False)
    elif what == "pooled":
        edit(transformer, pooled_projection_dim=7)
    elif what == "tokens":
        edit(folder / "model_index.json", text_encoder_3=[None, None])
        edit(transformer, joint_attention_dim=33)
    elif what == "no t5":
        edit(folder / "model_index.json", text_encoder_2=[None, None])
        (folder / "text_encoder_2" / "config.json").unlink()
    elif what == "told an image":
        edit(transformer, in_channels=32, out_channels=16)
    elif what == "codes":
        edit(folder / "vae" / "config.json", latent_channels=16)
    return {"size": int(what.split()[1])} if what.startswith("size") else {}


@pytest.mark.parametrize(
    ("folder", "what", "said"),
    [
        (SD3, "diffusion", "DDIMScheduler does not fit: the pipeline is a flow"),
        (SD3, "karras", "use_karras_sigmas cannot be followed"),
        (SD3, "shift", "a shift of -1 make no flow"),
        (SD3, "pooled", "gives pooled texts of width 64, the denoiser takes 7"),
        (SD3, "tokens", "gives tokens of width 64, the denoiser takes 33"),
        (SD3, "size 64", "has an image size of its own"),
        (FLUX, "pooled", "gives pooled texts of width 32, the denoiser takes 7"),
        (FLUX, "no t5", "has no text_encoder_2/config.json"),
        (FLUX, "told an image", "32 input channels do not make a denoiser of patches"),
        (FLUX, "codes", "the autoencoder reads 16 channels, the denoiser has 4"),
        (FLUX, "size 72", "images of 72x72 cannot be cut into patches"),
    ],
    indirect=["folder"],
)
def test_unusable_flows_are_refused(folder, what, said, edit):
    options = spoiled(folder, what, edit)
    with pytest.raises(UserError, match=said) as caught:
        source(folder, **options).load(CPU)
    assert caught.value.hint


@pytest.mark.parametrize("folder", [FLUX], indirect=True)
def test_levels_are_shifted_by_resolution(folder, edit):
    edit(folder / "scheduler" / "scheduler_config.json", time_shift_type="linear", base_shift=0.5, max_shift=1.5)
    edit(folder / "scheduler" / "scheduler_config.json", base_image_seq_len=4, max_image_seq_len=28)
    model = source(folder).load(CPU)
    schedule = FlowEuler(FlowEulerOptions()).schedule(model.alphas_cumprod, "trailing", 2, 0.0)
    # 16 tokens lie in the middle: mu = 1, which shifts nothing.
    assert schedule.timesteps.tolist() == pytest.approx([1000.0, 500.0])
    assert source(folder, size=32).fingerprint() != source(folder).fingerprint()


def test_few_large_prompts_are_kept(folders, monkeypatch):
    context = source(folders[FLUX]).load(CPU).conditions
    one = sum(value.nbytes for value in context.encoded(PROMPTS[0]).values())
    monkeypatch.setattr("ptqbench_diffusers.text.KEPT", 2 * one)
    for prompt in PROMPTS[1:4]:
        context.encoded(prompt)
    assert list(context.kept) == list(PROMPTS[2:4])
