"""What the source makes of a pipeline, against diffusers' own code."""

import dataclasses
import json
import shutil
import sys

import pytest
import torch
from diffusers import AutoencoderKL, DDIMPipeline, DDIMScheduler, DDPMScheduler, LDMPipeline, UNet2DModel
from diffusers.pipelines.ddim import pipeline_ddim
from diffusers.schedulers import scheduling_ddim
from safetensors.torch import load_file, save_file
from solverkit import ddim

from ptqbench.sampling.rng import NoiseSource
from ptqbench.sampling.sample import sample
from ptqbench.stage.predictor import Predictor
from ptqbench_diffusers.noise import read_noise

CPU = torch.device("cpu")
STEPS, IDS, SEED = 10, [0, 1, 2], 5


def our_images(model, eta=0.0):
    """Images in [0, 1] from the engine."""
    schedule = ddim("uniform", STEPS, eta, model.alphas_cumprod)
    latents = sample(Predictor(model, model.denoiser, schedule), IDS, seed=SEED, block="images", device=CPU)
    return (model.decode(latents) + 1) / 2


def same_noise(monkeypatch, pipeline_module, shape):
    """Make diffusers draw the engine's noise."""
    noise = NoiseSource(SEED, "images", IDS, shape)
    for module in (pipeline_module, scheduling_ddim):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise.draw())


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_a_pixel_pipeline_loads_frozen(pixel, source, kind):
    model = source(pixel(kind)).load(CPU)
    assert model.shape == (3, 8, 8)
    assert not model.denoiser.training
    assert {(p.dtype, p.requires_grad) for p in model.denoiser.parameters()} == {(torch.float32, False)}
    assert model.decode(torch.tensor([-3.0, 0.25, 3.0])).tolist() == [-1.0, 0.25, 1.0]
    assert dict(model.conditions([0, 1], "cond")) == {}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_sampling_is_that_of_diffusers(pixel, source, monkeypatch, prediction):
    path = pixel("ddim", {"clip_sample": False, "steps_offset": 1, "prediction_type": prediction})
    model = source(path).load(CPU)
    same_noise(monkeypatch, pipeline_ddim, model.shape)
    pipeline = DDIMPipeline.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(batch_size=len(IDS), num_inference_steps=STEPS, output_type="pt").images
    assert torch.allclose(our_images(model), theirs, atol=2e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_latent_sampling_is_that_of_diffusers(latent, source, monkeypatch, eta):
    path = latent()
    model = source(path).load(CPU)
    same_noise(monkeypatch, sys.modules[LDMPipeline.__module__], model.shape)
    pipeline = LDMPipeline.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(batch_size=len(IDS), num_inference_steps=STEPS, eta=eta, output_type="np").images
    ours = our_images(model, eta)
    assert ours.shape == (3, 3, 16, 16)
    assert torch.allclose(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2), atol=2e-4)


def test_latents_may_have_another_scale(latent, source, edit):
    path = latent()
    edit(path / "vqvae" / "config.json", scaling_factor=None)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    half, one = (source(path, latent_scale=scale).load(CPU).decode for scale in (0.5, 1.0))
    assert torch.equal(half(x), one(x / 0.5))


def test_a_kl_autoencoder_will_do(latent, source):
    path = latent()
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    kl = AutoencoderKL(latent_channels=3, block_out_channels=(8, 8), norm_num_groups=4, scaling_factor=0.25, **levels)
    shutil.rmtree(path / "vqvae")
    kl.eval().save_pretrained(path / "vqvae")
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = kl.decode(x / 0.25).sample.clamp(-1, 1)
    assert torch.allclose(source(path).load(CPU).decode(x), theirs, atol=1e-5)


def test_latents_are_decoded_the_same_in_any_batch(latent, source):
    decode = source(latent()).load(CPU).decode
    x = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(decode(x), torch.cat([decode(piece) for piece in x.split(1)]), atol=1e-5)


def test_class_labels_reach_the_network(pixel, source):
    model = source(pixel(num_class_embeds=3)).load(CPU)
    cond = model.conditions([0, 1, 2, 3, 7], "cond")
    assert cond["class_labels"].tolist() == [0, 1, 2, 0, 1]
    x, t = torch.randn(1, 3, 8, 8).repeat(5, 1, 1, 1), torch.full((5,), 300)
    eps = model.call(model.denoiser, x, t, cond)
    assert torch.equal(eps, model.denoiser(x, t, class_labels=cond["class_labels"]).sample)
    assert torch.allclose(eps[0], eps[3], atol=1e-6)
    assert not torch.allclose(eps[0], eps[1], atol=1e-3)


def test_one_class_may_be_fixed(pixel, source):
    path = pixel(num_class_embeds=3)
    assert source(path, labels=2).load(CPU).conditions(range(3), "cond")["class_labels"].tolist() == [2, 2, 2]


def test_labels_as_timesteps_need_a_class(pixel, source):
    model = source(pixel(class_embed_type="timestep"), labels=4).load(CPU)
    x = torch.zeros(2, 3, 8, 8)
    assert model.call(model.denoiser, x, torch.tensor([1, 2]), model.conditions([0, 1], "cond")).shape == x.shape


def test_learned_variance_is_dropped(pixel, source):
    model = source(pixel(out_channels=6)).load(CPU)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([5, 900])
    schedule = dataclasses.replace(ddim("uniform", STEPS, 0.0, model.alphas_cumprod), timesteps=t)
    eps = Predictor(model, model.denoiser, schedule).evaluate(x, torch.tensor([0, 1]), {})
    assert torch.equal(eps, model.denoiser(x, t).sample[:, :3])


def test_an_early_layout_with_early_attention_names_loads(pixel, source, edit):
    """As google/ddpm-cifar10-32: denoiser and scheduler at the root, attention layers called query, key and so on."""
    path = pixel()
    expected = source(path).load(CPU).denoiser.state_dict()
    for file in (*(path / "unet").iterdir(), *(path / "scheduler").iterdir()):
        file.rename(path / file.name)
    edit(path / "scheduler_config.json", prediction_type=None, beta_schedule=None)
    weights = path / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in load_file(weights).items():
        for new, early in old.items():
            name = name.replace(f".{new}.", f".{early}.")
        renamed[name] = value
    assert not any("to_q" in name for name in renamed)
    save_file(renamed, weights)
    found = source(path).load(CPU).denoiser.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_sharded_and_half_precision_weights_load(pixel, source):
    path = pixel()
    expected = source(path).load(CPU).denoiser.state_dict()
    before = source(path).fingerprint()
    net = UNet2DModel.from_pretrained(path / "unet").half()
    (path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    net.save_pretrained(path / "unet", max_shard_size="20KB")
    assert len(list((path / "unet").glob("*.safetensors"))) > 1
    found = source(path).load(CPU).denoiser.state_dict()
    assert all(torch.equal(found[name], value.half().float()) for name, value in expected.items())
    assert source(path).fingerprint() != before


def test_what_is_not_quantized_may_be_of_half_precision(latent, source):
    path = latent()
    full, half = (source(path, dtype=dtype) for dtype in ("float32", "bfloat16"))
    exact, rounded = full.load(CPU), half.load(CPU)
    assert {p.dtype for p in rounded.denoiser.parameters()} == {torch.float32}
    assert {p.dtype for p in rounded.decode.autoencoder.parameters()} == {torch.bfloat16}
    codes = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    error = rounded.decode(codes) - exact.decode(codes)
    assert error.dtype == torch.float32
    assert 0 < float(error.abs().mean()) < 0.02
    assert half.fingerprint() != full.fingerprint()


@pytest.mark.parametrize(
    ("scheduler", "options"),
    [
        (DDPMScheduler, {}),
        (DDIMScheduler, {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}),
        (DDPMScheduler, {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400}),
        (DDPMScheduler, {"beta_schedule": "sigmoid"}),
        (DDIMScheduler, {"trained_betas": [0.1, 0.2, 0.3]}),
    ],
)
def test_the_noise_schedule_is_the_scheduler_s_in_double_precision(tmp_path, scheduler, options):
    theirs = scheduler(**options)
    theirs.save_pretrained(tmp_path)
    ours = read_noise(tmp_path / "scheduler_config.json").alphas_cumprod
    assert ours.dtype == torch.float64
    assert torch.allclose(ours, theirs.alphas_cumprod.double(), rtol=1e-3, atol=1e-7)


def test_what_a_scheduler_file_leaves_out_is_its_class_s_default(tmp_path):
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "PNDMScheduler", "num_train_timesteps": 10, "predict_epsilon": False}))
    noise = read_noise(path)
    betas = torch.linspace(1e-4, 0.02, 10, dtype=torch.float64)
    assert torch.equal(noise.alphas_cumprod, (1 - betas).cumprod(0))
    assert noise.prediction == "sample"
