"""The digits classifier: a small CNN whose 64 penultimate activations describe an image, and its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptqbench_digits.data import CLASSES, digit_images, digit_labels, split, to_float

CLASSIFIER_CONFIG: dict[str, Any] = {"channels": [24, 48, 64], "features": 64, "classes": CLASSES, "size": 16}

Report = Callable[[int, float, nn.Module], None]
"""Called after each step with the number of steps done, the batch's loss and the classifier."""


class DigitsClassifier(nn.Module):
    """Three convolutions, a hidden layer of 64, ten logits; no layer mixes the images of a batch."""

    def __init__(self, channels: list[int], features: int, classes: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([1, *channels[:-1]], channels, strict=True):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU(), nn.AvgPool2d(2)]
        side = size // 2 ** len(channels)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side * side, features), nn.SiLU())
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """Activations (N, 64), after the nonlinearity, of images (N, 1, 16, 16) in [-1, 1]."""
        activations: Tensor = self.trunk(x)
        return activations

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 16, 16) in [-1, 1]."""
        logits: Tensor = self.head(self.features(x))
        return logits


@dataclass(frozen=True)
class ClassifierSettings:
    """How the classifier is trained; the defaults are those of the shipped weights."""

    steps: int = 1500
    seed: int = 0
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    noise: float = 0.3


def build_classifier(config: dict[str, Any] | None = None) -> DigitsClassifier:
    """A classifier with fresh weights from the global random state; `config` defaults to `CLASSIFIER_CONFIG`."""
    return DigitsClassifier(**(CLASSIFIER_CONFIG if config is None else config))


def train_classifier(settings: ClassifierSettings, report: Report) -> DigitsClassifier:
    """Train on the training part of the split, with small shifts and noise; returned in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = build_classifier()
    generator = torch.Generator().manual_seed(settings.seed)
    train, _ = split()
    images, labels = to_float(digit_images())[train], digit_labels()[train]
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=settings.steps + 1)
    for step in range(1, settings.steps + 1):
        chosen = torch.randint(len(images), (settings.batch,), generator=generator)
        loss = F.cross_entropy(model(_disturb(images[chosen], settings.noise, generator)), labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        report(step, float(loss.detach()), model)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def held_out_accuracy(model: nn.Module) -> float:
    """Share of the 360 held-out images that the classifier names correctly."""
    _, held_out = split()
    predicted = model(to_float(digit_images())[held_out]).argmax(dim=1)
    return float((predicted == digit_labels()[held_out]).double().mean())


def _disturb(images: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Shift each image by at most one pixel per axis (ground enters) and add noise of a random strength per image."""
    count, _, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    rows = torch.randint(3, (count, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(3, (count, 1), generator=generator) + torch.arange(width)
    shifted = padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
    strength = noise * torch.rand(count, 1, 1, 1, generator=generator)
    return shifted + strength * torch.randn(shifted.shape, generator=generator)
