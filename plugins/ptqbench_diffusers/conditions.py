"""What a denoiser is told of each image: nothing, a class, a token of context for it, or a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ptqbench.errors import UserError
from ptqbench.roles.model import COND, UNCOND, Conditions, unconditional
from ptqbench_diffusers import DiffusersOptions
from ptqbench_diffusers.embedder import class_context
from ptqbench_diffusers.labels import ClassLabels, choose_labels
from ptqbench_diffusers.layout import CONFIG, DITS, Network, PipelineFolder
from ptqbench_diffusers.networks import is_packed
from ptqbench_diffusers.text import text_context

ByImage = Callable[[Sequence[int], str], Conditions]


def conditions_of(folder: PipelineFolder, options: DiffusersOptions, device: torch.device) -> tuple[ByImage, tuple[str, ...]]:
    """A pipeline's conditions by image id and branch, and its branches: two where something stands for no condition.

    Raises `UserError` if options do not fit the pipeline, or its parts each other.
    """
    denoiser = folder.denoiser
    if denoiser.config.get("time_cond_proj_dim") is not None:
        raise UserError(
            f"{denoiser.folder / CONFIG}: time_cond_proj_dim asks for the scale of guidance, which nothing here gives",
            "use the model that it was distilled from",
        )
    if options.prompts and not folder.texts:
        raise UserError(f"the model in {folder.root} is told no text", "leave model.prompts out")
    if folder.texts:
        _no_classes(folder.root, options)
        prompts = Path(options.prompts) if options.prompts else None
        context = text_context(folder, prompts, device, getattr(torch, options.dtype))
        # Flux is told the scale of its guidance, or was distilled to need none.
        return context, (COND,) if is_packed(folder) else (COND, UNCOND)
    if folder.embedder is not None:
        classes = class_context(folder.embedder, denoiser, options.null_class, options.labels)
        return classes, _branches(classes.labels)
    labels = _transformer_labels(denoiser, options) if denoiser.class_name in DITS else _unet_labels(denoiser, options)
    return (unconditional, (COND,)) if labels is None else (labels, _branches(labels))


def _branches(labels: ClassLabels) -> tuple[str, ...]:
    return (COND,) if labels.null is None else (COND, UNCOND)


def _no_classes(folder: Path, options: DiffusersOptions) -> None:
    if options.labels != "balanced" or options.null_class is not None:
        raise UserError(f"the model in {folder} has no classes", "leave model.labels and model.null_class out")


def _transformer_labels(denoiser: Network, options: DiffusersOptions) -> ClassLabels:
    """DiT has an embedding for each class, and one more for none."""
    classes = int(denoiser.config.get("num_embeds_ada_norm") or 1000)
    null = classes if options.null_class is None else options.null_class
    return choose_labels(denoiser, classes + 1, null, options.labels)


def _unet_labels(denoiser: Network, options: DiffusersOptions) -> ClassLabels | None:
    kind, classes = denoiser.config.get("class_embed_type"), denoiser.config.get("num_class_embeds")
    if kind is None and classes is None:
        _no_classes(denoiser.folder, options)
        return None
    if kind not in (None, "timestep"):
        path = denoiser.folder / CONFIG
        raise UserError(f"{path}: class_embed_type {kind!r} is not supported", "use a model with integer class labels")
    return choose_labels(denoiser, classes if isinstance(classes, int) else None, options.null_class, options.labels)
