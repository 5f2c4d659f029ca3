"""Class-conditional latent diffusion, diffusion transformers, text-to-image: conditions, and latents against diffusers' own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
)
from diffusers.pipelines.dit import pipeline_dit
from safetensors.torch import load_file, save_file

from ptqbench.errors import UserError
from ptqbench.sampling.rng import NoiseSource
from ptqbench.sampling.sample import sample
from ptqbench.stage.predictor import Predictor
from ptqbench_diffusers import DiffusersOptions, RandomOptions
from ptqbench_diffusers.random_pipelines import save_random
from ptqbench_diffusers.random_source import RandomSource
from ptqbench_diffusers.random_text import PROMPTS
from ptqbench_diffusers.source import DiffusersSource
from ptqbench_solvers import DdimOptions, DpmSolverOptions, PlmsOptions
from ptqbench_solvers.ddim import Ddim
from ptqbench_solvers.multistep import DpmSolver, Plms

CPU = torch.device("cpu")
STEPS, IDS, SEED = 6, [0, 1, 12], 5
TOLD = ("stable-diffusion", "stable-diffusion-2", "stable-diffusion-xl", "pixart", "pixart-alpha")
PIXART = {"use_resolution_binning": False, "clean_caption": False}
"""Pipelines with text encoders."""
SOLVERS = {
    "ddim": (Ddim, DdimOptions(steps_offset=0), "leading"),
    "dpm": (DpmSolver, DpmSolverOptions(), "linspace"),
    "plms": (Plms, PlmsOptions(), "leading"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {}
    told = TOLD if importlib.util.find_spec("transformers") else ()
    for kind in ("ldm-class", "dit", *told):
        made[kind] = save_random(kind, tmp_path_factory.mktemp("random") / kind, seed=0)
    return made


def source(folder: Path, **options) -> DiffusersSource:
    prompts = folder / "prompts.txt"
    given = {"prompts": str(prompts)} if prompts.is_file() else {}
    return DiffusersSource(DiffusersOptions(path=str(folder), **(given | options)))


def our_latents(folder: Path, solver: str, guidance: float) -> torch.Tensor:
    model = source(folder).load(CPU).guided(guidance)
    kind, options, grid = SOLVERS[solver]
    schedule = kind(options).schedule(model.alphas_cumprod, grid, STEPS, 0.0)
    return sample(Predictor(model, model.denoiser, schedule), IDS, seed=SEED, block="images", device=CPU)


def noise(shape) -> torch.Tensor:
    return NoiseSource(SEED, "images", IDS, shape).draw()


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert float((ours - theirs).abs().max()) <= 1e-5 * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("solver", ["ddim", "dpm"])
def test_a_diffusion_transformer_s_latents_are_those_of_its_pipeline(folders, monkeypatch, solver, guidance):
    folder, seen = folders["dit"], []
    pipeline = DiTPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if solver == "dpm":
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, timestep_spacing="linspace")
    else:
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, steps_offset=0)
    monkeypatch.setattr(pipeline_dit, "randn_tensor", lambda shape, **_: noise(shape[1:]))
    decode = pipeline.vae.decode
    pipeline.vae.decode = lambda latents: (seen.append(latents), decode(latents))[1]
    images = pipeline([0, 1, 12], guidance_scale=guidance, num_inference_steps=STEPS, output_type="pt").images
    ours = our_latents(folder, solver, guidance)
    assert_same(ours, seen[0] * pipeline.vae.config.scaling_factor)
    decoded = (source(folder).load(CPU).decode(ours) + 1) / 2
    torch.testing.assert_close(decoded, images, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "solver", "guidance"),
    [("stable-diffusion", "plms", 1.0), ("stable-diffusion", "plms", 7.5), *((kind, "dpm", 4.5) for kind in TOLD)],
)
def test_latents_of_text_are_those_of_the_pipeline(folders, kind, solver, guidance):
    pytest.importorskip("transformers")
    folder = folders[kind]
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    scheduler = PNDMScheduler if solver == "plms" else DPMSolverMultistepScheduler
    changes = {} if solver == "plms" else {"timestep_spacing": "linspace", "steps_offset": 0}
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **changes)
    others = PIXART if kind.startswith("pixart") else {}
    theirs = pipeline(
        [PROMPTS[i % len(PROMPTS)] for i in IDS],
        guidance_scale=guidance,
        num_inference_steps=STEPS,
        latents=noise((4, 8, 8)),
        output_type="latent",
        **others,
    ).images
    ours = our_latents(folder, solver, guidance)
    assert_same(ours, theirs)
    with torch.no_grad():
        decoded = pipeline.vae.decode(theirs / pipeline.vae.config.scaling_factor).sample.clamp(-1, 1)
    torch.testing.assert_close(source(folder).load(CPU).decode(theirs), decoded)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_class_conditional_latent_diffusion_is_guided_ddim_on_embedded_classes(folders, guidance):
    """diffusers has no pipeline of it: its network and its scheduler, put together by hand."""
    folder = folders["ldm-class"]
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", steps_offset=0)
    scheduler.set_timesteps(STEPS)
    table = load_file(folder / "class_embedder" / "diffusion_pytorch_model.safetensors")["embedding.weight"]
    x = noise((3, 16, 16))
    for t in scheduler.timesteps:
        both = torch.cat([table[[10] * 3], table[[0, 1, 2]]])[:, None]
        without, told = unet(torch.cat([x, x]), t, encoder_hidden_states=both).sample.chunk(2)
        x = scheduler.step(without + guidance * (told - without), t, x).prev_sample
    assert_same(our_latents(folder, "ddim", guidance), x)


def test_classes_are_told_as_labels_or_as_context(folders):
    dit, ldm = (source(folders[kind]).load(CPU) for kind in ("dit", "ldm-class"))
    assert dit.conditions([0, 999, 1000], "cond")["class_labels"].tolist() == [0, 999, 0]
    assert dit.conditions([3, 4], "uncond")["class_labels"].tolist() == [1000, 1000]
    context = ldm.conditions([0, 10], "cond")["encoder_hidden_states"]
    assert context.shape == (2, 1, 32)
    assert torch.equal(context[0], context[1])
    assert not torch.equal(context, ldm.conditions([0, 10], "uncond")["encoder_hidden_states"])
    one = source(folders["dit"], labels=7).load(CPU)
    assert one.conditions([0, 1], "cond")["class_labels"].tolist() == [7, 7]


def test_a_null_class_makes_a_pixel_model_guidable(pixel):
    model = source(pixel(num_class_embeds=4), null_class=1).load(CPU)
    assert model.branches == ("cond", "uncond")
    assert model.conditions(range(4), "cond")["class_labels"].tolist() == [0, 2, 3, 0]
    assert model.conditions(range(2), "uncond")["class_labels"].tolist() == [1, 1]


def test_a_prompt_is_encoded_once_and_alone(folders, tmp_path):
    pytest.importorskip("transformers")
    many = tmp_path / "many.txt"
    many.write_text("\n".join(["\ufeffa first line", "", *(f"prompt {i}" for i in range(9_999))]), encoding="utf-8")
    made = source(folders["stable-diffusion"], prompts=str(many))
    model = made.load(CPU)
    first = model.conditions([0, 1, 0], "cond")["encoder_hidden_states"]
    assert first.shape == (3, 24, 32)
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(model.conditions([10_000, 10_001], "cond")["encoder_hidden_states"], first[:2])
    blank = model.conditions([0, 1], "uncond")["encoder_hidden_states"]
    assert torch.equal(blank[0], blank[1])
    assert len(model.conditions.kept) == 3
    before = made.fingerprint()
    many.write_text("another line\n", encoding="utf-8")
    assert source(folders["stable-diffusion"], prompts=str(many)).fingerprint() != before


def test_prompts_may_be_encoded_in_half_precision(folders):
    pytest.importorskip("transformers")
    exact, rounded = (
        source(folders["stable-diffusion"], dtype=dtype).load(CPU).conditions([0, 1], "cond")["encoder_hidden_states"]
        for dtype in ("float32", "bfloat16")
    )
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).abs().mean()) < 0.02 * float(exact.abs().mean())


def test_variants_are_loaded_on_request(folders, tmp_path):
    folder = save_random("dit", tmp_path / "dit", seed=0)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    half = {name: value.half() for name, value in load_file(weights).items()}
    save_file(half, weights.with_suffix(".fp16.safetensors").with_name("diffusion_pytorch_model.fp16.safetensors"))
    plain, variant = source(folder), source(folder, variant="fp16")
    assert plain.fingerprint() != variant.fingerprint()
    loaded = variant.load(CPU).denoiser.state_dict()
    assert all(torch.equal(loaded[name], value.float()) for name, value in half.items())
    with pytest.raises(UserError, match="no weights of the variant 'bf16'"):
        source(folder, variant="bf16").load(CPU)


def test_pixart_at_1024_is_told_the_size_of_images(tmp_path):
    """As published, where the denoiser's latents are 128 x 128: large patches keep it cheap here."""
    pytest.importorskip("transformers")
    from ptqbench_diffusers.random_text import pixart_alpha

    torch.manual_seed(0)
    pixart_alpha(tmp_path, sample_size=128, patch_size=32)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, timestep_spacing="linspace")
    told, start = [PROMPTS[i % len(PROMPTS)] for i in IDS], noise((4, 128, 128))
    theirs = pipeline(told, guidance_scale=4.5, num_inference_steps=STEPS, latents=start, output_type="latent", **PIXART).images
    assert_same(our_latents(tmp_path, "dpm", 4.5), theirs)
    cond = source(tmp_path).load(CPU).conditions([0, 1], "uncond")
    assert cond["resolution"].tolist() == [[1024.0, 1024.0]] * 2
    assert cond["aspect_ratio"].tolist() == [[1.0]] * 2


def test_pixart_too_had_another_name(folders, tmp_path, edit):
    pytest.importorskip("transformers")
    folder = save_random("pixart-alpha", tmp_path / "pixart", seed=0)
    more = {"num_vector_embeds": 0, "only_cross_attention": False, "use_linear_projection": False}
    edit(folder / "transformer" / "config.json", _class_name="Transformer2DModel", **more)
    assert type(source(folder).load(CPU).denoiser).__name__ == "PixArtTransformer2DModel"


def test_early_diffusion_transformers_had_another_name(folders, tmp_path, edit):
    folder = save_random("dit", tmp_path / "dit", seed=0)
    edit(folder / "transformer" / "config.json", _class_name="Transformer2DModel")
    assert type(source(folder).load(CPU).denoiser).__name__ == "DiTTransformer2DModel"


def test_random_pipelines_are_functions_of_kind_and_seed():
    one, two = (RandomSource(RandomOptions(kind="dit", seed=seed)) for seed in (0, 1))
    assert one.fingerprint() != two.fingerprint()
    assert one.load(CPU).shape == (4, 8, 8)
    assert one.reference_images() is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the recipe names no prompts"),
        ("\n \n", "holds no prompt"),
        ("absent", "cannot read"),
        (b"\xff\xfe\xfa", "no UTF-8 text"),
    ],
)
def test_unusable_prompts_are_refused(folders, tmp_path, content, said):
    pytest.importorskip("transformers")
    path = tmp_path / "prompts.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content not in (None, "absent"):
        path.write_text(content)
    with pytest.raises(UserError, match=said):
        source(folders["stable-diffusion"], prompts="" if content is None else str(path)).load(CPU)


def test_without_transformers_a_text_encoder_is_refused(folders, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UserError, match=r"need the package transformers"):
        source(folders["stable-diffusion"]).load(CPU)


def test_the_package_that_encodes_prompts_is_in_the_fingerprint_of_what_is_told(folders, monkeypatch):
    pytest.importorskip("transformers")
    kinds = ("dit", *TOLD)
    before = {kind: source(folders[kind]).fingerprint() for kind in kinds}
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.1")
    after = {kind: source(folders[kind]).fingerprint() for kind in kinds}
    assert [kind for kind in kinds if after[kind] == before[kind]] == ["dit"]
