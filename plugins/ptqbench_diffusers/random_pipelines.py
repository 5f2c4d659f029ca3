"""Small pipelines with random weights, of the architectures that the field compares on: to go through a recipe in minutes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import nn

from ptqbench_diffusers.layout import CONFIG, EMBEDDER, WEIGHTS

CLASSES = 10
TOKENS, WIDTH = 24, 32
"""Of what small text encoders give: how many states, and how wide."""
PROMPTS = (
    "a red bicycle leaning against a brick wall",
    "two zebras drinking from a river at dusk",
    "a bowl of noodles on a wooden table",
    "a child flying a kite over the dunes",
    "an old tram in a narrow street",
    "a cat asleep on a pile of books",
    "a snowy mountain seen from a train window",
    "three boats in a small harbour",
)
LATENT_NOISE = {"beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": True, "steps_offset": 1}
LDM_NOISE = LATENT_NOISE | {"beta_start": 0.0015, "beta_end": 0.0195}
XL_NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
SD_NOISE = XL_NOISE | {"set_alpha_to_one": False}


def _diffusers() -> Any:
    """The package, whose annotations hide what its classes inherit."""
    import diffusers  # slow to import: only when something is built

    return diffusers


def unet(sample: int, channels: int, widths: tuple[int, ...], attention: tuple[bool, ...], **changes: Any) -> nn.Module:
    """A UNet2DModel with one residual block on each level, or (with `cross_attention_dim`) a UNet2DConditionModel."""
    conditional = "cross_attention_dim" in changes
    down, up = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D") if conditional else ("AttnDownBlock2D", "AttnUpBlock2D")
    made: nn.Module = (_diffusers().UNet2DConditionModel if conditional else _diffusers().UNet2DModel)(
        sample_size=sample,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=tuple(down if attends else "DownBlock2D" for attends in attention),
        up_block_types=tuple(up if attends else "UpBlock2D" for attends in reversed(attention)),
        norm_num_groups=8,
        attention_head_dim=8,
        **changes,
    )
    return made


def autoencoder(levels: int, *, quantized: bool, shift_factor: float | None = None) -> nn.Module:
    """A VQModel with latents of 3 channels, or an AutoencoderKL with 4: each level but one halves both sides."""
    shape = {
        "block_out_channels": (8,) * levels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "norm_num_groups": 4,
    }
    if quantized:
        vq = _diffusers().VQModel(latent_channels=3, num_vq_embeddings=64, scaling_factor=1.0, **shape)
        vq.quantize.embedding.weight.data.normal_()  # its own start is too near to zero to tell codes apart
        return cast(nn.Module, vq)
    factors = {"scaling_factor": 0.18215, "shift_factor": shift_factor}
    return cast(nn.Module, _diffusers().AutoencoderKL(latent_channels=4, **factors, **shape))


def ddpm(folder: Path) -> None:
    """As google/ddpm-cifar10-32, an eighth as wide: pixels, attention on the second level."""
    d = _diffusers()
    network = unet(16, 3, (16, 32, 32, 32), (False, True, False, False))
    d.DDPMPipeline(network, d.DDPMScheduler(clip_sample=False)).save_pretrained(folder)


def ddpm_cifar10(folder: Path) -> None:
    """As google/ddpm-cifar10-32 at its full size: 35.7 M parameters."""
    d = _diffusers()
    network = d.UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )
    d.DDPMPipeline(network, d.DDPMScheduler(clip_sample=False)).save_pretrained(folder)


def ldm(folder: Path) -> None:
    """As CompVis' unconditional latent diffusion (LDM-4): VQ latents, attention on all levels but the first."""
    d = _diffusers()
    network = unet(16, 3, (16, 32, 48, 64), (False, True, True, True))
    d.LDMPipeline(autoencoder(3, quantized=True), network, d.DDIMScheduler(**LDM_NOISE)).save_pretrained(folder)


def ldm_class(folder: Path) -> None:
    """As CompVis' ImageNet model (cin256-v2): the same with spatial transformers, which attend to an embedded class."""
    d = _diffusers()
    width = 32
    network = unet(16, 3, (16, 32, 48, 80), (False, True, True, True), cross_attention_dim=width)
    d.LDMPipeline(autoencoder(3, quantized=True), network, d.DDIMScheduler(**LDM_NOISE)).save_pretrained(folder)
    save_embedder(folder, nn.Embedding(CLASSES + 1, width).weight.detach(), null=CLASSES)


def dit(folder: Path) -> None:
    """As facebook/DiT-XL-2-256: patches of 2, adaLN-zero blocks, a learned variance."""
    d = _diffusers()
    network = d.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=8,
        num_embeds_ada_norm=1000,
    )
    d.DiTPipeline(network, autoencoder(4, quantized=False), d.DDIMScheduler(clip_sample=False)).save_pretrained(folder)


def stable_diffusion(folder: Path) -> None:
    """As Stable Diffusion 1.5: spatial transformers that attend to a text, whose encoder and tokenizer are small too."""
    _stable_diffusion(folder)


def stable_diffusion_2(folder: Path) -> None:
    """As Stable Diffusion 2.1: the same, with linear projections, and v predictions."""
    _stable_diffusion(folder, "v_prediction", use_linear_projection=True)


def _stable_diffusion(folder: Path, prediction: str = "epsilon", **changes: Any) -> None:
    d, vae = _diffusers(), autoencoder(4, quantized=False)
    encoder, tokenizer = clip(folder / "tokenizer", "CLIPTextModel")
    _save_told(
        folder,
        d.StableDiffusionPipeline(
            vae,
            encoder,
            tokenizer,
            unet(8, 4, (16, 32, 32, 32), (True, True, True, False), cross_attention_dim=WIDTH, **changes),
            d.PNDMScheduler(skip_prk_steps=True, prediction_type=prediction, **SD_NOISE),
            None,
            None,
            requires_safety_checker=False,
        ),
    )


def stable_diffusion_xl(folder: Path) -> None:
    """As Stable Diffusion XL: two text encoders, and the image's size embedded with the timestep."""
    d = _diffusers()
    first, tokenizer = clip(folder / "tokenizer", "CLIPTextModel")
    second, other = clip(folder / "tokenizer_2", "CLIPTextModelWithProjection")
    network = unet(
        8,
        4,
        (16, 32, 32),
        (False, True, True),
        cross_attention_dim=2 * WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
    )
    vae, noise = autoencoder(4, quantized=False), d.EulerDiscreteScheduler(timestep_spacing="leading", **XL_NOISE)
    _save_told(folder, d.StableDiffusionXLPipeline(vae, first, second, tokenizer, other, network, noise))


def pixart(folder: Path) -> None:
    """As PixArt-Sigma: one adaLN for all blocks, which attend to T5's states; a learned variance."""
    d = _diffusers()
    encoder, tokenizer = t5()
    network = d.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        sample_size=8,
        cross_attention_dim=32,
        caption_channels=WIDTH,
        use_additional_conditions=False,
    )
    noise = d.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02)
    _save_told(folder, d.PixArtSigmaPipeline(tokenizer, encoder, autoencoder(4, quantized=False), network, noise))


def stable_diffusion_3(folder: Path) -> None:
    """As Stable Diffusion 3.5: blocks that attend to image and text jointly, the first to the image alone as well; three text
    encoders."""
    d = _diffusers()
    first, tokenizer = clip(folder / "tokenizer", "CLIPTextModelWithProjection")
    second, other = clip(folder / "tokenizer_2", "CLIPTextModelWithProjection")
    third, speller = t5(3 * WIDTH)
    network = d.SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=3 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    vae, noise = autoencoder(4, quantized=False, shift_factor=0.0609), d.FlowMatchEulerDiscreteScheduler(shift=3.0)
    _save_told(folder, d.StableDiffusion3Pipeline(network, noise, vae, first, tokenizer, second, other, third, speller))


FLUX_SIZE = 64
"""Pixels of a side of the small Flux' images."""


def flux(folder: Path) -> None:
    """As FLUX.1-dev: blocks that attend jointly, then blocks of one stream; told the scale of its guidance."""
    d = _diffusers()
    first, tokenizer = clip(folder / "tokenizer", "CLIPTextModel")
    second, speller = t5()
    network = d.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    vae = autoencoder(4, quantized=False, shift_factor=0.1159)
    noise = d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    _save_told(folder, d.FluxPipeline(noise, vae, first, tokenizer, second, speller, network))


def clip(folder: Path, class_name: str) -> tuple[nn.Module, Any]:
    """A small CLIP text encoder of a class, and a tokenizer with its files in `folder`."""
    from ptqbench_diffusers.text import require_transformers

    transformers = require_transformers()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(str(_spelling(folder)), model_max_length=TOKENS)
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return getattr(transformers, class_name)(config), tokenizer


def t5(width: int = WIDTH) -> tuple[nn.Module, Any]:
    """A small T5 encoder whose tokens are `width` wide, and a tokenizer that spells."""
    from ptqbench_diffusers.text import require_transformers

    transformers = require_transformers()
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(letter, -2.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz0123456789.,'-"]
    tokenizer = transformers.T5Tokenizer(vocab=special + letters, extra_ids=0, model_max_length=TOKENS)
    config = transformers.T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=16, d_ff=2 * WIDTH, num_layers=2, num_heads=2)
    return transformers.T5EncoderModel(config), tokenizer


def _save_told(folder: Path, pipeline: Any) -> None:
    """Save a pipeline that is told a text, and prompts for it."""
    from ptqbench_diffusers.text import no_progress_bars, require_transformers

    with no_progress_bars(require_transformers()):
        pipeline.save_pretrained(folder)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")


def save_embedder(folder: Path, table: torch.Tensor, null: int) -> None:
    """The class embedder (classes, D) of a latent diffusion, as this plugin reads it from a pipeline's folder."""
    target = folder / EMBEDDER
    target.mkdir(parents=True)
    config = {"_class_name": "ClassEmbedder", "n_classes": len(table), "embed_dim": table.shape[1], "null_class": null}
    (target / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({"embedding.weight": table.contiguous()}, target / f"{WEIGHTS}.safetensors")


def _spelling(folder: Path) -> Path:
    """The files of a CLIP tokenizer that spells every word in single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return folder


BUILDERS: dict[str, Callable[[Path], None]] = {
    "ddpm": ddpm,
    "ddpm-cifar10": ddpm_cifar10,
    "ldm": ldm,
    "ldm-class": ldm_class,
    "dit": dit,
    "stable-diffusion": stable_diffusion,
    "stable-diffusion-2": stable_diffusion_2,
    "stable-diffusion-xl": stable_diffusion_xl,
    "pixart": pixart,
    "stable-diffusion-3": stable_diffusion_3,
    "flux": flux,
}


def save_random(kind: str, folder: Path, seed: int) -> Path:
    """Build the pipeline of a kind with the seed's weights, and save it in `folder` as diffusers does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BUILDERS[kind](folder)
    return folder
