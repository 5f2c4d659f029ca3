"""What a family's text encoders make of a prompt: the arguments that its denoiser wants, as its pipeline has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ptqbench_diffusers.layout import PipelineFolder
from ptqbench_diffusers.networks import image_shape

Arguments = dict[str, Tensor]
"""Arguments of a denoiser by name, each (1, ...)."""

PIXART_TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}


@dataclass(frozen=True)
class Encoder:
    """A text encoder and its tokenizer."""

    tokenizer: Any
    network: Any
    device: torch.device

    def __call__(self, prompt: str, length: int | None = None, *, masked: bool = False) -> tuple[Any, Tensor]:
        """The encoder's outputs, and which of `length` tokens (if None: the tokenizer's number) are the prompt's, (1, length).

        `masked` hides the others from the encoder.
        """
        wanted = self.tokenizer.model_max_length if length is None else length
        tokens = self.tokenizer(prompt, padding="max_length", max_length=wanted, truncation=True, return_tensors="pt")
        mask: Tensor = tokens.attention_mask.to(self.device)
        out = self.network(tokens.input_ids.to(self.device), attention_mask=mask if masked else None, output_hidden_states=True)
        return out, mask


Encode = Callable[[PipelineFolder, Sequence[Encoder], str], Arguments]


def stable_diffusion(folder: PipelineFolder, encoders: Sequence[Encoder], prompt: str) -> Arguments:
    """The last hidden states."""
    encoder = encoders[0]
    out, _ = encoder(prompt, masked=bool(getattr(encoder.network.config, "use_attention_mask", False)))
    return {"encoder_hidden_states": out[0]}


def stable_diffusion_xl(folder: PipelineFolder, encoders: Sequence[Encoder], prompt: str) -> Arguments:
    """Both encoders' last hidden states but one, the second's projection, and the image's size, uncropped (arXiv:2307.01952,
    section 2.2). No prompt is all zeros, unless the pipeline says otherwise."""
    outs = [encoder(prompt)[0] for encoder in encoders]
    told = torch.cat([out.hidden_states[-2] for out in outs], dim=-1)
    pooled = outs[-1].text_embeds
    if not prompt and folder.index.get("force_zeros_for_empty_prompt", True):
        told, pooled = torch.zeros_like(told), torch.zeros_like(pooled)
    _, height, width = image_shape(folder)
    sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device="cpu")
    return {"encoder_hidden_states": told, "text_embeds": pooled, "time_ids": sizes}


def pixart(folder: PipelineFolder, encoders: Sequence[Encoder], prompt: str) -> Arguments:
    """The last hidden states of the prompt in lower case, which tokens are its own, and the image's size if it is asked."""
    out, mask = encoders[0](prompt.lower().strip(), PIXART_TOKENS[folder.name], masked=True)
    found = {"encoder_hidden_states": out[0], "encoder_attention_mask": mask}
    config = folder.denoiser.config
    asks = config.get("use_additional_conditions")
    if config.get("sample_size") == 128 if asks is None else asks:
        _, height, width = image_shape(folder)
        found["resolution"] = torch.tensor([[height, width]], dtype=torch.float32, device="cpu")
        found["aspect_ratio"] = torch.tensor([[height / width]], dtype=torch.float32, device="cpu")
    return found


SD3_TOKENS = 256
FLUX_TOKENS = {True: 512, False: 256}
"""Of FLUX.1-dev, which is told its guidance, and of FLUX.1-schnell, which is not."""


def stable_diffusion_3(folder: PipelineFolder, encoders: Sequence[Encoder], prompt: str) -> Arguments:
    """Both CLIP encoders' last states but one, side by side and filled up with zeros to T5's width, then T5's last; zeros
    if there is no T5. Both projections as the pooled text (arXiv:2403.03206, section 4)."""
    clips, width = encoders[:2], int(folder.denoiser.config["joint_attention_dim"])
    outs = [encoder(prompt, clips[0].tokenizer.model_max_length)[0] for encoder in clips]
    told = torch.cat([out.hidden_states[-2] for out in outs], dim=-1)
    told = F.pad(told, (0, width - told.shape[-1]))
    rest = encoders[2](prompt, SD3_TOKENS)[0][0] if len(encoders) > 2 else told.new_zeros(1, SD3_TOKENS, width)
    pooled = torch.cat([out.text_embeds for out in outs], dim=-1)
    return {"encoder_hidden_states": torch.cat([told, rest], dim=1), "pooled_projections": pooled}


def flux(folder: PipelineFolder, encoders: Sequence[Encoder], prompt: str) -> Arguments:
    """T5's last hidden states, and CLIP's pooled output."""
    length = FLUX_TOKENS[bool(folder.denoiser.config.get("guidance_embeds"))]
    return {
        "encoder_hidden_states": encoders[1](prompt, length)[0][0],
        "pooled_projections": encoders[0](prompt)[0].pooler_output,
    }


FAMILIES: dict[str, Encode] = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": stable_diffusion_xl,
    "PixArtAlphaPipeline": pixart,
    "PixArtSigmaPipeline": pixart,
    "StableDiffusion3Pipeline": stable_diffusion_3,
    "FluxPipeline": flux,
}
"""By the class of the pipeline."""

ADDED = ("text_embeds", "time_ids", "resolution", "aspect_ratio")
"""What denoisers want among their `added_cond_kwargs`."""
