"""The range `mse` against a plain loop in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quantkit import estimator
from torch import Tensor

from ptqbench.plugin.component import NoOptions
from ptqbench.quant.grid import Layout, Levels, QuantSpec
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.range import RangeEstimator
from ptqbench_ranges import MseOptions, ThresholdOptions, scoring
from ptqbench_ranges.search import Search
from ptqbench_ranges.threshold import Threshold


def brute_force(row: np.ndarray, levels: Levels, candidates: int, power: float) -> tuple[float, float]:
    """Scale and zero point with the smallest error, candidate by candidate."""
    best, found = np.inf, (0.0, 0.0)
    for k in range(candidates):
        lo, hi = row.min() * (1 - 0.01 * k), row.max() * (1 - 0.01 * k)
        if levels.symmetric:
            scale, zero = max(abs(lo), abs(hi)) / levels.high, 0.0
        else:
            scale = (hi - lo) / (levels.high - levels.low)
            zero = np.round(-lo / scale)
        codes = np.clip(np.round(row / scale) + zero, levels.low, levels.high)
        error = np.mean(np.abs(row - (codes - zero) * scale) ** power)
        if error < best:
            best, found = error, (scale, zero)
    return found


def drawn(rows: int = 5, n: int = 300, seed: int = 0) -> Tensor:
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x * torch.linspace(0.1, 3, rows, dtype=torch.float64)[:, None] + torch.linspace(-1, 3, rows)[:, None]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("candidates", "power"), [(80, 2.4), (30, 2.0)])
def test_search_matches_a_loop(bits: int, symmetric: bool, candidates: int, power: float) -> None:
    levels, x = Levels(bits, symmetric), drawn()
    ranges = estimator("mse", levels, candidates=candidates, power=power)
    ranges.observe(x)
    scale, zero = ranges.grid()
    expected = [brute_force(row, levels, candidates, power) for row in x.numpy()]
    torch.testing.assert_close(scale, torch.tensor([e[0] for e in expected], dtype=torch.float64))
    assert zero.tolist() == [e[1] for e in expected]


def test_the_first_of_equally_good_candidates_wins() -> None:
    best = scoring.best_grid(torch.zeros(1, 4), torch.ones(1, 3), torch.zeros(1, 3), Levels(2, symmetric=True), 2.4)
    assert best.tolist() == [[0]]


@pytest.mark.parametrize("power", [2.4, 2.0, 1.5])
@pytest.mark.parametrize("levels", [Levels(4), Levels(8), Levels(4, symmetric=True), Levels(8, symmetric=True)])
def test_grids_that_a_bound_rules_out_would_not_have_won(levels: Levels, power: float) -> None:
    x = drawn(6, 500).float()
    x[1], x[2, 7], x[3], x[4, 0] = 0.0, 40.0, x[3] * 1e-20, torch.nan
    lo, hi = (extremum[:, None] * (1 - torch.arange(80) / 100) for extremum in x.aminmax(dim=1))
    scale, zero = levels.from_range(lo, hi, include_zero=False)
    codes = (torch.round(x[:, None] / scale[..., None]) + zero[..., None]).clamp(levels.low, levels.high)
    errors = (codes - zero[..., None]).mul(scale[..., None]).sub(x[:, None]).abs().pow(power).mean(2)
    assert torch.equal(scoring.best_grid(x, scale, zero, levels, power), errors.argmin(1, keepdim=True))


def test_memory_bound_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pieces = estimator("mse", Levels(4)), estimator("mse", Levels(4))
    for ranges in (whole, pieces):
        ranges.observe(drawn())
    expected = whole.grid()
    monkeypatch.setattr(scoring, "WORKING_VALUES", 1000)
    assert all(torch.equal(a, b) for a, b in zip(expected, pieces.grid(), strict=True))


def test_long_rows_are_thinned_evenly_over_all_batches() -> None:
    ranges = Search(MseOptions(max_values=256), levels=Levels(8))
    values = torch.arange(5000.0).reshape(1, -1)
    for piece in values.split(313, dim=1):
        ranges.observe(piece)
    kept = ranges._values.values().flatten()
    assert len(kept) <= 256
    assert torch.equal(kept, torch.arange(0, 5000, 27.0))


def test_thinning_keeps_the_extrema_and_nearly_the_grid() -> None:
    x = torch.randn(1, 60_000, generator=torch.Generator().manual_seed(0))
    x[0, 31] = 40.0
    exact, thinned = (Search(MseOptions(max_values=m), levels=Levels(4)) for m in (100_000, 8000))
    for ranges in (exact, thinned):
        for piece in x.split(7001, dim=1):
            ranges.observe(piece)
    assert thinned._range[1].item() == 40.0
    assert thinned.grid()[0].item() == pytest.approx(exact.grid()[0].item(), rel=0.2)


def observed(use: str, x: Tensor, most: int) -> UniformQuantizer:
    """A quantizer per tensor at 8 bits that saw x."""
    kind, options = {"mse": (Search, MseOptions), "threshold": (Threshold, ThresholdOptions)}[use]
    spec = QuantSpec(8)

    def make() -> RangeEstimator:
        return kind(options(max_values=most), levels=spec.levels)

    made = UniformQuantizer(NoOptions(), spec=spec, layout=Layout(None), estimator=make)
    made.observe(x)
    return made


STRUCTURED = {
    "tokens": ((8, 50, 72), lambda x: x[..., 5::24]),
    "kernels": ((36, 36, 3, 3), lambda x: x[..., 1:2, 1:2]),
    "1x1 kernels": ((150, 144, 1, 1), lambda x: x[:, 7::36]),
    "columns": ((4, 8, 27, 27), lambda x: x[..., 4]),
    "everything by three": ((6, 48, 81), lambda x: x[..., 40]),
}


@pytest.mark.parametrize("use", ["mse", "threshold"])
@pytest.mark.parametrize("case", STRUCTURED)
def test_thinning_by_threes_meets_every_place_of_a_period_by_threes(case: str, use: str) -> None:
    """A few places hold values ten times as large, which are clipped if they are never seen."""
    shape, large = STRUCTURED[case]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5
    large(x).sign_().mul_(5.0)
    thinned, exact = observed(use, x, 2000), observed(use, x, 10**6)
    for made in (thinned, exact):
        made.freeze()
    error, least = (float((made(x) - x).abs().pow(2.4).mean()) for made in (thinned, exact))
    assert error < 1.1 * least


def test_kept_places_do_not_depend_on_how_batches_are_cut() -> None:
    values = torch.arange(40_000.0).reshape(1, -1)
    whole, pieces = scoring.Thinned(500), scoring.Thinned(500)
    whole.add(values, period=48)
    for piece in values.split(4800, dim=1):
        pieces.add(piece, period=48)
    kept = whole.values()
    assert torch.equal(pieces.values(), kept) and 500 / 3.3 < kept.shape[1] <= 500
    # About as many of each channel, and steps between neighbours that differ by one.
    seen = torch.bincount((kept[0] % 48).long(), minlength=48)
    assert int(seen.min()) >= 0.5 * float(seen.float().mean()) and len(kept.diff().unique()) == 2


def test_the_observed_batch_may_change_afterwards() -> None:
    x = drawn()
    kept, changed = (estimator("mse", Levels(4)) for _ in range(2))
    kept.observe(x.clone())
    changed.observe(x)
    x.zero_()
    assert all(torch.equal(a, b) for a, b in zip(kept.grid(), changed.grid(), strict=True))
