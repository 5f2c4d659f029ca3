"""Which class each image of a class-conditional model shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ptqbench.errors import UserError
from ptqbench.roles.model import Conditions, unconditional
from ptqbench_diffusers.layout import CONFIG, Network


@dataclass(frozen=True)
class ClassLabels:
    """Image i shows class i modulo `classes`, or always the class `fixed`."""

    classes: int
    fixed: int | None = None

    def __call__(self, ids: Sequence[int], branch: str) -> Conditions:
        labels = [i % self.classes if self.fixed is None else self.fixed for i in ids]
        return {"class_labels": torch.tensor(labels, dtype=torch.int64)}


def conditions_of(denoiser: Network, labels: Literal["balanced"] | int) -> Callable[[Sequence[int], str], Conditions]:
    """The denoiser's conditions by image id. Raises `UserError` if `labels` does not fit the denoiser."""
    path = denoiser.folder / CONFIG
    kind, classes = denoiser.config.get("class_embed_type"), denoiser.config.get("num_class_embeds")
    if kind is None and classes is None:
        if labels != "balanced":
            raise UserError(f"the model in {denoiser.folder} has no classes", "leave model.labels out")
        return unconditional
    if kind not in (None, "timestep"):
        raise UserError(f"{path}: class_embed_type {kind!r} is not supported", "use a model with integer class labels")
    if labels == "balanced":
        if not isinstance(classes, int) or classes < 1:
            raise UserError(f"{path} does not state num_class_embeds", "set model.labels to one class")
        return ClassLabels(classes)
    if isinstance(classes, int) and labels >= classes:
        raise UserError(f"class {labels} is not one of the model's {classes}", f"choose from 0 to {classes - 1}")
    return ClassLabels(classes or 1, labels)
