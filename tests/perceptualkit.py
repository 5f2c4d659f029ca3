"""Small random networks for metrics that need large published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ptqbench_diffusers.random_text import clip


def options_of(name: str, folder: Path) -> dict[str, Any]:
    """Options of a metric or extractor, whose files are made in `folder`."""
    if name == "lpips":
        return {"network": "squeeze", "weights": str(squeezenet(folder / "squeeze.pth"))}
    if name == "dinov2":
        return {"model": str(dinov2(folder / "dinov2"))}
    return {"model": str(clip_model(folder / "clip"))}


def squeezenet(path: Path) -> Path:
    """Weights of torchvision's SqueezeNet 1.1."""
    from torchvision.models import squeezenet1_1

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(squeezenet1_1().state_dict(), path)
    return path


def dinov2(folder: Path) -> Path:
    """A DINOv2 of two layers, with patches of 56 pixels."""
    from transformers import Dinov2Config, Dinov2Model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, patch_size=56, image_size=224)
        Dinov2Model(config).save_pretrained(folder)
    return folder


def clip_model(folder: Path) -> Path:
    """A CLIP of two layers on either side, and its processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, tokenizer = clip(folder, "CLIPTextModel")
        vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes = {"image_size": 32, "patch_size": 16}
        text = encoder.config.to_dict()
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision | sizes, projection_dim=16)).save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
