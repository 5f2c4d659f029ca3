"""The model card's figures: how well the networks do, and how close samples are to the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ptqbench.evaluate.distances import frechet_distance
from ptqbench.roles.features import POOL, PROBABILITIES
from ptqbench.roles.model import UNCOND
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.classifier import build_classifier, held_out_accuracy
from ptqbench_digits.data import CLASSES, to_bytes
from ptqbench_digits.diffusion import card_loss
from ptqbench_digits.features import DigitsFeatures
from ptqbench_digits.sampling import ddim
from ptqbench_digits.source import SOURCES, read_network

HALVES = 10
SAMPLE_SEED = 1
_CPU = torch.device("cpu")


def figures(name: str, folder: str, steps: int, count: int, guidance: float | None = None) -> dict[str, Any]:
    """Loss, accuracy, and for `count` DDIM samples of `steps` steps: confidence, digit shares, distance to the data.

    `name` is the bundle's; of a conditional denoiser image i shows the digit i modulo 10, and the figures say how many do.
    `folder` is as in `DigitsOptions`. Raises `ptqbench.errors.UserError` where weights are missing or altered.
    """
    options = DigitsOptions(folder=folder)
    source, features = SOURCES[name](options), DigitsFeatures(options)
    model = source.load(_CPU)
    features.prepare(_CPU)
    samples = to_bytes(ddim(model, count, steps, SAMPLE_SEED, guidance=guidance))
    real = source.reference_images()
    ours, theirs = features.extract(samples), features.extract(real)
    probabilities, conditional = ours[PROBABILITIES], UNCOND in model.branches
    return {
        "loss": card_loss(*read_network(bundle.folder_of(folder), name), conditional=conditional),
        "held_out_accuracy": _accuracy(folder),
        "ddim_steps": steps,
        "samples": count,
        **({"guidance": guidance or 1.0, "class_accuracy": _right(probabilities)} if conditional else {}),
        "samples_confidence": float(probabilities.amax(dim=1).mean()),
        "data_confidence": float(theirs[PROBABILITIES].amax(dim=1).mean()),
        "samples_per_digit": probabilities.argmax(dim=1).bincount(minlength=10).tolist(),
        "distance_samples_data": frechet_distance(ours[POOL], theirs[POOL]),
        "distance_data_halves": _halves(theirs[POOL]),
        "nearest_image_rms": _nearest(samples, real),
        "nearest_other_image_rms": _nearest(real, real),
    }


def _right(probabilities: Tensor) -> float:
    """Share of samples that the classifier takes for the digit that they were to show."""
    asked = torch.arange(len(probabilities), dtype=torch.int64, device="cpu") % CLASSES
    return float((probabilities.argmax(dim=1) == asked).double().mean())


def _halves(features: Tensor) -> float:
    """Mean distance between random halves of the data: what sampling error alone amounts to."""
    generator = torch.Generator().manual_seed(0)
    distances = []
    for _ in range(HALVES):
        order = torch.randperm(len(features), generator=generator)
        half = len(features) // 2
        distances.append(frechet_distance(features[order[:half]], features[order[half:]]))
    return sum(distances) / len(distances)


def _nearest(images: Tensor, real: Tensor) -> float:
    """Median over images of the RMS difference (grey levels) to the nearest different real image."""
    a, b = images.flatten(1).float(), real.flatten(1).float()
    distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") / a.shape[1] ** 0.5
    return float(distance.masked_fill(distance == 0, torch.inf).amin(dim=1).median())


def _accuracy(folder: str) -> float:
    location = bundle.folder_of(folder)
    network = build_classifier(bundle.read_config(location, bundle.CLASSIFIER)["network"])
    return held_out_accuracy(bundle.load_weights(network, location, bundle.CLASSIFIER))
