"""Small pipelines with random weights that are told by text: Stable Diffusion, PixArt, Flux, with encoders and prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from ptqbench_diffusers.random_parts import autoencoder, diffusers_package, unet
from ptqbench_diffusers.text import no_progress_bars, require_transformers

TOKENS, WIDTH = 24, 32
"""Of what small text encoders give: how many states, and how wide."""
_THINGS = ("a red bicycle", "two zebras", "a bowl of noodles", "a child with a kite", "an old tram", "a sleeping cat")
_PLACES = ("by a brick wall", "at a river", "on a table", "in the dunes", "in a narrow street", "under a snowy mountain")
PROMPTS = tuple(f"{thing} {place}" for place, thing in product(_PLACES, _THINGS))
XL_NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
SD_NOISE = XL_NOISE | {"set_alpha_to_one": False}


def stable_diffusion(folder: Path) -> None:
    """As Stable Diffusion 1.5: spatial transformers that attend to a text, whose encoder and tokenizer are small too."""
    _stable_diffusion(folder)


def stable_diffusion_2(folder: Path) -> None:
    """As Stable Diffusion 2.1: the same, with linear projections, and v predictions."""
    _stable_diffusion(folder, "v_prediction", use_linear_projection=True)


def _stable_diffusion(folder: Path, prediction: str = "epsilon", **changes: Any) -> None:
    d, vae = diffusers_package(), autoencoder(4, quantized=False)
    encoder, tokenizer = clip(folder / "tokenizer", "CLIPTextModel")
    _save_told(
        folder,
        d.StableDiffusionPipeline(
            vae,
            encoder,
            tokenizer,
            unet(8, 4, (16, 32), (True, False), cross_attention_dim=WIDTH, **changes),
            d.PNDMScheduler(skip_prk_steps=True, prediction_type=prediction, **SD_NOISE),
            None,
            None,
            requires_safety_checker=False,
        ),
    )


def stable_diffusion_xl(folder: Path) -> None:
    """As Stable Diffusion XL: two text encoders, and the image's size embedded with the timestep."""
    d = diffusers_package()
    first, tokenizer = clip(folder / "tokenizer", "CLIPTextModel")
    second, other = clip(folder / "tokenizer_2", "CLIPTextModelWithProjection")
    network = unet(
        8,
        4,
        (16, 32),
        (False, True),
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
    _pixart(folder, "PixArtSigmaPipeline", sample_size=8, use_additional_conditions=False)


def pixart_alpha(folder: Path, **changes: Any) -> None:
    """As PixArt-alpha at 512x512: the same, with fewer tokens. At 1024x1024 (`sample_size` 128) it is told the image's size."""
    _pixart(folder, "PixArtAlphaPipeline", **({"sample_size": 8} | changes))


def _pixart(folder: Path, kind: str, **changes: Any) -> None:
    d = diffusers_package()
    encoder, tokenizer = t5()
    network = d.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=3,
        cross_attention_dim=48,
        caption_channels=WIDTH,
        **changes,
    )
    noise = d.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02)
    _save_told(folder, getattr(d, kind)(tokenizer, encoder, autoencoder(4, quantized=False), network, noise))


def stable_diffusion_3(folder: Path) -> None:
    """As Stable Diffusion 3.5: blocks that attend to image and text jointly, the first to the image alone as well; three text
    encoders."""
    d = diffusers_package()
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
    d = diffusers_package()
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
    transformers = require_transformers()
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(letter, -2.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz0123456789.,'-"]
    tokenizer = transformers.T5Tokenizer(vocab=special + letters, extra_ids=0, model_max_length=TOKENS)
    config = transformers.T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=16, d_ff=2 * WIDTH, num_layers=2, num_heads=2)
    return transformers.T5EncoderModel(config), tokenizer


def _save_told(folder: Path, pipeline: Any) -> None:
    """Save a pipeline that is told a text, and prompts for it."""
    with no_progress_bars(require_transformers()):
        pipeline.save_pretrained(folder)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")


def _spelling(folder: Path) -> Path:
    """The files of a CLIP tokenizer that spells every word in single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return folder


TOLD: dict[str, Callable[[Path], None]] = {
    "stable-diffusion": stable_diffusion,
    "stable-diffusion-2": stable_diffusion_2,
    "stable-diffusion-xl": stable_diffusion_xl,
    "pixart-alpha": pixart_alpha,
    "pixart": pixart,
    "stable-diffusion-3": stable_diffusion_3,
    "flux": flux,
}
