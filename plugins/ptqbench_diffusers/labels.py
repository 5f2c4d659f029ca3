"""Which class each image of a class-conditional model shows, and how the denoiser is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ptqbench.errors import UserError
from ptqbench.roles.model import COND, Conditions
from ptqbench_diffusers.layout import CONFIG, Network

Labels = Literal["balanced"] | int


@dataclass(frozen=True)
class ClassLabels:
    """Image i shows class i modulo `classes` (the null class left out), or always the class `fixed`.

    In the unconditional branch every image has the class `null`.
    """

    classes: int
    fixed: int | None = None
    null: int | None = None

    def of(self, ids: Sequence[int], branch: str) -> torch.Tensor:
        """The labels (N,) int64 of images by id."""
        if branch != COND and self.null is not None:
            return torch.full((len(ids),), self.null, dtype=torch.int64, device="cpu")
        shown = [c for c in range(self.classes) if c != self.null]
        labels = [shown[i % len(shown)] if self.fixed is None else self.fixed for i in ids]
        return torch.tensor(labels, dtype=torch.int64, device="cpu")

    def __call__(self, ids: Sequence[int], branch: str) -> Conditions:
        """As the denoiser's argument."""
        return {"class_labels": self.of(ids, branch)}


def choose_labels(where: Network, classes: int | None, null: int | None, labels: Labels) -> ClassLabels:
    """Labels for a network that embeds `classes` classes, the null class among them.

    Raises `UserError` for a class that it does not have, or if neither file nor option says how many there are.
    """
    path = where.folder / CONFIG
    for name, chosen in (("null class", null), ("class", None if labels == "balanced" else labels)):
        if chosen is not None and classes is not None and chosen >= classes:
            raise UserError(f"{name} {chosen} is not one of the model's {classes}", f"choose from 0 to {classes - 1}")
    if labels != "balanced":
        return ClassLabels(classes or 1, labels, null)
    if classes is None or classes < 1 + (null is not None):
        raise UserError(f"{path} does not state how many classes there are", "set model.labels to one class")
    return ClassLabels(classes, None, null)
