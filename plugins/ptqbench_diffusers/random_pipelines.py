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
TOKENS = 24
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
SD_NOISE = LATENT_NOISE | {"beta_start": 0.00085, "beta_end": 0.012}


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


def autoencoder(levels: int, *, quantized: bool) -> nn.Module:
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
    return cast(nn.Module, _diffusers().AutoencoderKL(latent_channels=4, scaling_factor=0.18215, **shape))


def ddpm(folder: Path) -> None:
    """As google/ddpm-cifar10-32, an eighth as wide: pixels, attention on the second level."""
    d = _diffusers()
    network = unet(16, 3, (16, 32, 32, 32), (False, True, False, False))
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
    d = _diffusers()
    from ptqbench_diffusers.text import no_progress_bars, require_transformers

    transformers, width = require_transformers(), 32
    tokenizer = transformers.CLIPTokenizer.from_pretrained(str(_spelling(folder / "tokenizer")), model_max_length=TOKENS)
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    noise = {key: value for key, value in SD_NOISE.items() if key != "clip_sample"} | {"set_alpha_to_one": False}
    made = d.StableDiffusionPipeline(
        autoencoder(4, quantized=False),
        transformers.CLIPTextModel(config),
        tokenizer,
        unet(8, 4, (16, 32, 32, 32), (True, True, True, False), cross_attention_dim=width),
        d.PNDMScheduler(skip_prk_steps=True, **noise),
        None,
        None,
        requires_safety_checker=False,
    )
    with no_progress_bars(transformers):
        made.save_pretrained(folder)
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
    "ldm": ldm,
    "ldm-class": ldm_class,
    "dit": dit,
    "stable-diffusion": stable_diffusion,
}


def save_random(kind: str, folder: Path, seed: int) -> Path:
    """Build the pipeline of a kind with the seed's weights, and save it in `folder` as diffusers does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BUILDERS[kind](folder)
    return folder
