"""The Frechet distance against three independent references, and what must leave it unchanged."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import linalg

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.distances import frechet_distance, frechet_without_blocks, required_images
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import partition
from ptqbench.evaluate.moments import Gaussian, Moments


def draw(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    """Correlated, skewed features (n, d)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / math.sqrt(d)
    return (torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing).exp() * scale + shift


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("d", [2, 7, 64])
def test_equals_pytorch_fid(d: int) -> None:
    """The function that papers' FID numbers come from, on equal means and covariances."""
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    if "disp" not in inspect.signature(linalg.sqrtm).parameters:
        pytest.skip("this scipy's sqrtm has no argument disp, which pytorch-fid needs")
    x, y = draw(300, d, 0), draw(400, d, 1, 1.3, 0.2)
    reference = fid_score.calculate_frechet_distance(
        *(f(z) for z in (x.numpy(), y.numpy()) for f in (lambda a: a.mean(axis=0), lambda a: np.cov(a, rowvar=False)))
    )
    assert frechet_distance(x, y) == pytest.approx(float(reference), rel=1e-7)


@pytest.mark.parametrize("d", [2, 30])
def test_equals_sqrtm_in_float64(d: int) -> None:
    x, y = draw(200, d, 2).numpy(), draw(250, d, 3, 0.7).numpy()
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(cov_x @ cov_y)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root.real)
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-9)


def test_closed_form_for_diagonal_covariances() -> None:
    mean1, mean2 = torch.tensor([0.0, 1.0, -2.0]).double(), torch.tensor([1.0, 1.0, 0.5]).double()
    var1, var2 = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([9.0, 4.0, 0.25]).double()
    expected = (1.0 + 0.0 + 6.25) + ((1 - 3) ** 2 + 0.0 + 0.5**2)
    found = frechet_distance(*(FeatureSet(None, 3, Gaussian(m, torch.diag(v))) for m, v in ((mean1, var1), (mean2, var2))))
    assert found == pytest.approx(expected, abs=1e-12)


def test_zero_for_equal_sets_and_never_negative() -> None:
    x = draw(100, 20, 4)
    assert 0.0 <= frechet_distance(x, x) < 1e-8
    assert 0.0 <= frechet_distance(x, x[torch.randperm(100)]) < 1e-8


def test_symmetric_and_invariant() -> None:
    """Order of rows, common shifts, common rotations and float32 input change nothing; a common scale squares."""
    x, y = draw(150, 12, 5), draw(160, 12, 6, 1.5)
    value = frechet_distance(x, y)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(7)).double()).Q
    assert frechet_distance(y, x) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(x.flip(0), y) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(x + 3.0, y + 3.0) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(x @ rotation, y @ rotation) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(10 * x, 10 * y) == pytest.approx(100 * value, rel=1e-9)
    assert frechet_distance(x.float(), y.float()) == pytest.approx(value, rel=1e-5)


def test_moments_join_and_part_exactly() -> None:
    x = draw(90, 5, 8, shift=1000.0)
    whole, first, second = Moments.of(x), Moments.of(x[:33]), Moments.of(x[33:])
    for found, expected in ((first.plus(second), whole), (whole.minus(first), second)):
        assert found.count == expected.count
        torch.testing.assert_close(found.mean, expected.mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.scatter, expected.scatter, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole.covariance(), x.T.cov())
    with pytest.raises(ValueError, match="nothing remains"):
        first.minus(first)


@pytest.mark.parametrize("paired", [False, True])
def test_without_blocks_equals_starting_over(paired: bool) -> None:
    x, y = draw(85, 4, 9), draw(85, 4, 10)
    blocks = partition(85, 6)
    found = frechet_without_blocks(x, y, blocks, paired=paired)
    keep = [torch.from_numpy(blocks != b) for b in range(6)]
    expected = [frechet_distance(x[k], y[k] if paired else y) for k in keep]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(0, 3), (1, 1), (3, 3), (64, 64)])
def test_too_few_images_are_refused_with_the_number_needed(n: int, d: int) -> None:
    enough = draw(required_images(d), d, 11)
    for pair in ((torch.zeros(n, d), enough), (enough, torch.zeros(n, d))):
        with pytest.raises(CellFailedError, match=f"needs at least {required_images(d)}"):
            frechet_distance(*pair)
    assert frechet_distance(enough, enough) < 1e-6


def test_values_that_are_not_finite_are_refused() -> None:
    x = draw(20, 3, 12)
    x[4, 1] = math.nan
    with pytest.raises(CellFailedError, match="not finite"):
        frechet_distance(x, draw(20, 3, 13))
    with pytest.raises(ValueError, match="not comparable"):
        frechet_distance(draw(20, 3, 12), draw(20, 4, 13))
