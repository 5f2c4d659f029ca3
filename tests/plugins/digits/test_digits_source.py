"""The model source: what it loads, what it refuses, and that the denoiser is as good as its card says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ptqbench.errors import UserError
from ptqbench.roles.model import COND, UNCOND, DiffusionModel
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.data import digit_images, to_float
from ptqbench_digits.diffusion import card_loss
from ptqbench_digits.networks import LatentDigits
from ptqbench_digits.source import ConditionalSource, DigitsSource, LatentSource, TransformerSource, read_network

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


@pytest.mark.parametrize("name", [bundle.DENOISER, bundle.TRANSFORMER, bundle.LATENT])
def test_loss_on_real_data_is_the_card_s(name: str) -> None:
    written = bundle.read_config(bundle.SHIPPED, name)["results"]["loss"]
    found = card_loss(*read_network(bundle.SHIPPED, name), conditional=name != bundle.DENOISER)
    assert found == pytest.approx(written, rel=0.01)


@pytest.mark.parametrize("source", [ConditionalSource, TransformerSource, LatentSource])
def test_a_conditional_denoiser_is_told_one_digit_or_none(source: type[DigitsSource]) -> None:
    model = source(DigitsOptions()).load(CPU)
    assert model.branches == (COND, UNCOND)
    x = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1, 1)
    t = torch.full((4,), 300)
    told = model.call(model.denoiser, x, t, model.conditions([3, 4, 13, 5], COND))
    torch.testing.assert_close(told[0], told[2])
    assert not torch.allclose(told[0], told[1], atol=1e-3)
    nothing = model.call(model.denoiser, x, t, model.conditions([3, 4, 13, 5], UNCOND))
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))
    assert model.decode(told).shape == (4, 1, 16, 16)


def test_the_autoencoder_keeps_what_matters_and_its_latents_have_unit_variance() -> None:
    network, _ = read_network(bundle.SHIPPED, bundle.LATENT)
    assert isinstance(network, LatentDigits)
    latents = network.encode(to_float(digit_images()))
    assert latents.shape[1:] == network.shape
    assert float(latents.std()) == pytest.approx(1.0, abs=0.01)
    written = bundle.read_config(bundle.SHIPPED, bundle.LATENT)["results"]["reconstruction_error"]
    error = (network.decode(latents) - to_float(digit_images())).square().mean()
    assert float(error) == pytest.approx(written, rel=0.01)
    assert written < 0.01


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
