"""Structural similarity against an independent loop in float64."""

from __future__ import annotations

import math

import pytest
import torch

from ptqbench.errors import CellFailedError
from ptqbench_metrics.ssim import similarity


def images(n: int, seed: int, shape: tuple[int, int, int] = (3, 14, 13)) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def loop(x: list[list[int]], y: list[list[int]]) -> float:
    """The definition, place by place and pixel by pixel, for one channel."""
    weights = [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    total = sum(map(sum, weights))
    values = []
    for top in range(len(x) - 10):
        for left in range(len(x[0]) - 10):
            cells = [(weights[i][j] / total, x[top + i][left + j], y[top + i][left + j]) for i in range(11) for j in range(11)]
            mx, my = sum(w * a for w, a, _ in cells), sum(w * b for w, _, b in cells)
            vx, vy = sum(w * (a - mx) ** 2 for w, a, _ in cells), sum(w * (b - my) ** 2 for w, _, b in cells)
            cov = sum(w * (a - mx) * (b - my) for w, a, b in cells)
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return sum(values) / len(values)


def test_equals_a_loop_over_places() -> None:
    x, y = images(2, 0), images(2, 1)
    y[1] = (x[1].int() + torch.randint(-9, 10, x[1].shape)).clamp(0, 255).to(torch.uint8)
    expected = [sum(loop(a.tolist(), b.tolist()) for a, b in zip(p, q, strict=True)) / 3 for p, q in zip(x, y, strict=True)]
    assert similarity(x, y).tolist() == pytest.approx(expected, rel=1e-9)
    assert expected[1] > 0.9 > 0.2 > expected[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_scikit_image(channels: int) -> None:
    """Where it is installed."""
    metrics = pytest.importorskip("skimage.metrics")
    x, y = images(2, 0, (channels, 20, 17)), images(2, 1, (channels, 20, 17))
    expected = [
        metrics.structural_similarity(
            a.numpy(), b.numpy(), channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=255,
        )
        for a, b in zip(x, y, strict=True)
    ]  # fmt: skip
    assert similarity(x, y).tolist() == pytest.approx(expected, rel=1e-9)


def test_equal_images_score_one_and_symmetry_holds() -> None:
    x, y = images(3, 2, (1, 11, 11)), images(3, 3, (1, 11, 11))
    assert similarity(x, x).tolist() == pytest.approx([1.0] * 3)
    assert torch.allclose(similarity(x, y), similarity(y, x))


def test_small_images_are_refused() -> None:
    with pytest.raises(CellFailedError, match="smaller than SSIM's window") as caught:
        similarity(images(2, 0, (1, 10, 16)), images(2, 1, (1, 10, 16)))
    assert "psnr" in caught.value.hint
