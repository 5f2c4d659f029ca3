"""The features: shape, determinism, independence of batches, refusals, and the classifier's accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ptqbench.errors import UserError
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.classifier import build_classifier, held_out_accuracy
from ptqbench_digits.data import digit_images, digit_labels
from ptqbench_digits.features import CHUNK, DigitsFeatures

CPU = torch.device("cpu")


def test_features_do_not_depend_on_batches(digits_features: DigitsFeatures) -> None:
    images = digit_images()[: CHUNK + 40]
    together, flipped = digits_features.extract(images), digits_features.extract(images.flip(0))
    parts = [digits_features.extract(part) for part in images.split(33)]
    for name in digits_features.outputs():
        apart = torch.cat([part[name] for part in parts])
        assert torch.allclose(together[name], apart, rtol=1e-4, atol=1e-4)
        assert torch.allclose(together[name].flip(0), flipped[name], rtol=1e-4, atol=1e-4)


def test_no_images_give_no_features(digits_features: DigitsFeatures) -> None:
    found = digits_features.extract(digit_images()[:0])
    assert {name: tuple(x.shape) for name, x in found.items()} == {"pool": (0, 64), "probabilities": (0, 10)}


def test_outputs_are_known_without_weights(digits_features: DigitsFeatures) -> None:
    assert DigitsFeatures(DigitsOptions()).outputs() == {"pool": 64, "probabilities": 10}
    assert {name: x.shape[1] for name, x in digits_features.extract(digit_images()[:3]).items()} == digits_features.outputs()
    assert not digits_features.inception


def test_probabilities_name_the_digit(digits_features: DigitsFeatures) -> None:
    probabilities = digits_features.extract(digit_images()[:300])["probabilities"]
    assert probabilities.shape == (300, 10)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(300), atol=1e-5)
    assert (probabilities.argmax(dim=1) == digit_labels()[:300]).double().mean() > 0.97


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
        torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 16, 16, dtype=torch.uint8),
        torch.zeros(2, 1, 16, 16),
    ],
)
def test_other_images_are_refused(digits_features: DigitsFeatures, images: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"expect images \(N, 1, 16, 16\) uint8"):
        digits_features.extract(images)


def test_features_need_preparing() -> None:
    with pytest.raises(RuntimeError, match="prepare"):
        DigitsFeatures(DigitsOptions()).extract(digit_images()[:1])


def test_held_out_accuracy_is_the_card_s() -> None:
    config = bundle.read_config(bundle.SHIPPED, bundle.CLASSIFIER)
    network = bundle.load_weights(build_classifier(config["network"]), bundle.SHIPPED, bundle.CLASSIFIER)
    accuracy = held_out_accuracy(network)
    assert accuracy >= 0.97
    assert accuracy == pytest.approx(config["results"]["held_out_accuracy"], abs=0.003)


def test_altered_weights_change_the_fingerprint_and_are_refused(weights_copy: Path) -> None:
    features = DigitsFeatures(DigitsOptions(folder=str(weights_copy)))
    before = features.fingerprint()
    path = weights_copy / "classifier.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    assert features.fingerprint() != before
    with pytest.raises(UserError, match="SHA-256"):
        features.prepare(CPU)


def test_an_unknown_network_is_refused(weights_copy: Path) -> None:
    path = weights_copy / "classifier.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"classes"', '"clases"'), encoding="utf-8")
    with pytest.raises(UserError, match="does not describe a digits classifier"):
        DigitsFeatures(DigitsOptions(folder=str(weights_copy))).prepare(CPU)
