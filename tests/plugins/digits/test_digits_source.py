"""The model source: what it loads, what it refuses, and that the denoiser is as good as its card says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ptqbench.errors import UserError
from ptqbench.roles.model import DiffusionModel
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.data import digit_images
from ptqbench_digits.diffusion import card_loss
from ptqbench_digits.source import DigitsSource

CPU = torch.device("cpu")


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def source_of(folder: Path) -> DigitsSource:
    return DigitsSource(DigitsOptions(folder=str(folder)))


def test_load_gives_a_frozen_model_that_predicts(digits_model: DiffusionModel) -> None:
    assert digits_model.shape == (1, 16, 16)
    assert not digits_model.denoiser.training
    parameters = list(digits_model.denoiser.parameters())
    assert {(p.dtype, p.requires_grad) for p in parameters} == {(torch.float32, False)}
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    prediction = digits_model.call(digits_model.denoiser, x, torch.tensor([0, 500, 999]), {})
    assert prediction.shape == x.shape
    assert torch.isfinite(prediction).all()


def test_schedule_is_the_cumulative_product_in_double_precision(digits_model: DiffusionModel) -> None:
    alphas = digits_model.alphas_cumprod
    assert alphas.dtype == torch.float64
    assert alphas.shape == (1000,)
    assert float(alphas[0]) == pytest.approx(1.0 - 1e-4, abs=1e-15)
    assert torch.all(alphas[1:] < alphas[:-1])
    assert float(alphas[-1]) == pytest.approx(4.0358e-5, rel=1e-3)


def test_decode_clamps(digits_model: DiffusionModel) -> None:
    assert digits_model.decode(torch.tensor([-3.0, 0.25, 3.0])).tolist() == [-1.0, 0.25, 1.0]


def test_loss_on_real_data_is_the_card_s(digits_model: DiffusionModel) -> None:
    written = bundle.read_config(bundle.SHIPPED, bundle.DENOISER)["results"]["loss"]
    assert card_loss(digits_model.denoiser, digits_model.alphas_cumprod) == pytest.approx(written, rel=0.01)


def test_reference_images_are_the_data() -> None:
    assert torch.equal(DigitsSource(DigitsOptions()).reference_images(), digit_images())


@pytest.mark.parametrize("name", ["denoiser.safetensors", "denoiser.json"])
def test_fingerprint_follows_every_byte(weights_copy: Path, name: str) -> None:
    before = source_of(weights_copy).fingerprint()
    assert before == DigitsSource(DigitsOptions()).fingerprint()
    flip_byte(weights_copy / name)
    assert source_of(weights_copy).fingerprint() != before


def test_altered_weights_are_refused(weights_copy: Path) -> None:
    flip_byte(weights_copy / "denoiser.safetensors")
    with pytest.raises(UserError, match="SHA-256") as caught:
        source_of(weights_copy).load(CPU)
    assert "ptqbench digits train" in caught.value.hint


@pytest.mark.parametrize("name", ["denoiser.safetensors", "denoiser.json"])
def test_missing_files_are_refused(weights_copy: Path, name: str) -> None:
    (weights_copy / name).unlink()
    with pytest.raises(UserError, match="cannot read"):
        source_of(weights_copy).load(CPU)
    with pytest.raises(UserError, match="cannot read"):
        source_of(weights_copy).fingerprint()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "", "not valid JSON"),
        ('"network"', '"net"', "does not describe a network"),
        ('"kind": "linear"', '"kind": "cosine"', "unknown noise schedule"),
        ('"norm_num_groups": 8', '"norm_num_groups": "a"', "does not describe a digits denoiser"),
        ('"layers_per_block": 1', '"layers_per_block": 2', "does not fit"),
    ],
)
def test_unusable_configurations_are_refused(weights_copy: Path, old: str, new: str, message: str) -> None:
    path = weights_copy / "denoiser.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        source_of(weights_copy).load(CPU)
