"""The Haar transform against its matrix, energy, and the loss term against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ptqbench.roles.loss import Outcome
from ptqbench_beyond import HaarOptions
from ptqbench_beyond.haar import BANDS, HaarError, as_maps, haar

B = 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outcome(*pairs: tuple[Tensor, Tensor], power: float = 2.0) -> Outcome:
    output, target = zip(*pairs, strict=True)
    return Outcome(output, target, torch.zeros(B, dtype=torch.int64), power)


def by_matrix(image: Tensor) -> dict[str, Tensor]:
    """One image through T X T', where T has sums (low) and differences (high) of neighbours over sqrt 2."""
    height, width = image.shape

    def rows(size: int, sign: float) -> Tensor:
        made = torch.zeros(size // 2, size, dtype=torch.float64)
        for i in range(size // 2):
            made[i, 2 * i], made[i, 2 * i + 1] = 1 / math.sqrt(2), sign / math.sqrt(2)
        return made

    low_y, high_y, low_x, high_x = rows(height, 1), rows(height, -1), rows(width, 1), rows(width, -1)
    return {
        "ll": low_y @ image @ low_x.T,
        "lh": low_y @ image @ high_x.T,
        "hl": high_y @ image @ low_x.T,
        "hh": high_y @ image @ high_x.T,
    }


def test_bands_are_those_of_the_transforms_matrix() -> None:
    x = drawn(2, 3, 4, 6)
    bands = haar(x)
    assert tuple(bands) == BANDS
    for n in range(2):
        for c in range(3):
            for band, expected in by_matrix(x[n, c]).items():
                torch.testing.assert_close(bands[band][n, c], expected)


def test_energy_is_kept() -> None:
    x = drawn(2, 3, 8, 4)
    energy = sum(band.square().sum((1, 2, 3)) for band in haar(x).values())
    torch.testing.assert_close(energy, x.square().sum((1, 2, 3)))


@pytest.mark.parametrize(
    ("band", "value"),
    [
        ("ll", lambda y, x: 1.0),
        ("lh", lambda y, x: (-1.0) ** x),
        ("hl", lambda y, x: (-1.0) ** y),
        ("hh", lambda y, x: (-1.0) ** (x + y)),
    ],
)
def test_each_band_has_its_pattern_to_itself(band: str, value: Callable[[int, int], float]) -> None:
    image = torch.tensor([[value(y, x) for x in range(4)] for y in range(4)], dtype=torch.float64)
    energy = {name: float(found.square().sum()) for name, found in haar(image).items()}
    assert energy == {name: 16.0 if name == band else 0.0 for name in BANDS}


def test_tokens_become_rows_of_a_map() -> None:
    tokens = drawn(2, 16, 3)
    maps = as_maps(tokens)
    assert maps is not None
    assert maps.shape == (2, 3, 4, 4)
    for n in range(16):
        assert torch.equal(maps[:, :, n // 4, n % 4], tokens[:, n])


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 8, 3), (2, 1, 3), (2, 5), (2, 3, 3, 4), (2, 3, 4, 1), (2, 3, 1, 1), (2,)])
def test_other_shapes_have_no_bands(shape: tuple[int, ...]) -> None:
    assert as_maps(torch.zeros(shape)) is None


@pytest.mark.parametrize("shape", [(B, 5, 4, 6), (B, 16, 5)])
@pytest.mark.parametrize("power", [2.0, 2.4])
def test_parts_are_a_quarter_of_gamma_times_each_bands_error(shape: tuple[int, ...], power: float) -> None:
    p, q = drawn(*shape, seed=1), drawn(*shape, seed=2)
    parts = HaarError(HaarOptions(gamma=0.6)).losses(outcome((p, q), power=power))
    assert tuple(parts) == BANDS
    tokens = len(shape) == 3
    for i in range(B):
        difference = (p - q)[i].T.reshape(5, 4, 4) if tokens else (p - q)[i]
        # Maps: a sum over channels and a mean over positions. Tokens: a sum over tokens and a mean over features.
        count = 5 if tokens else 24
        for band in BANDS:
            energy = sum(float(by_matrix(image)[band].square().sum()) for image in difference)
            assert float(parts[band][i]) == pytest.approx(0.6 / 4 * energy / count)


@pytest.mark.parametrize("shape", [(B, 5, 4, 6), (B, 16, 5)])
def test_all_parts_sum_to_gamma_over_four_of_the_plain_squared_error(shape: tuple[int, ...]) -> None:
    p, q = drawn(*shape, seed=1), drawn(*shape, seed=2)
    plain = (p - q).square().sum(1).flatten(1).mean(1)
    parts = HaarError(HaarOptions(gamma=2.0)).losses(outcome((p, q)))
    torch.testing.assert_close(torch.stack(list(parts.values())).sum(0), 2.0 / 4 * plain)


def test_outputs_with_bands_add_up_and_others_are_left_out() -> None:
    term = HaarError(HaarOptions())
    maps, tokens, vector = [(drawn(*shape, seed=1), drawn(*shape, seed=2)) for shape in ((B, 2, 4, 4), (B, 4, 3), (B, 7))]
    found = term.losses(outcome(maps, vector, tokens))
    for band in BANDS:
        torch.testing.assert_close(found[band], term.losses(outcome(maps))[band] + term.losses(outcome(tokens))[band])
    assert term.losses(outcome(vector)) == {}


def test_gamma_zero_leaves_nothing() -> None:
    pair = drawn(B, 2, 4, 4, seed=1), drawn(B, 2, 4, 4, seed=2)
    assert HaarError(HaarOptions(gamma=0.0)).losses(outcome(pair)) == {}
