"""The sampler `density-diversity` against plain loops in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.roles.sampler import Selection, TrajectoryGrid
from ptqbench_edadm import DensityDiversityOptions
from ptqbench_edadm.allocation import allocate, capped
from ptqbench_edadm.density import density, diversity, normalised, pairwise
from ptqbench_edadm.sampler import DensityDiversitySampler

SHAPES = {"maps": (7, 3, 5, 2, 3), "tokens": (6, 2, 4, 5), "vectors": (5, 3, 6)}


def drawn(kind: str = "maps", seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = SHAPES[kind]
    drift = torch.linspace(0, 2, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return torch.randn(shape, generator=generator) + drift.square()


def loops(features: Tensor, radius: float) -> tuple[list[int], list[float]]:
    """Neighbours and summed cosine distances of every step, pair by pair, vector by vector."""
    x = features.double()
    axis = 2 if x.dim() > 4 else x.dim() - 1
    vectors = x.movedim(axis, -1).reshape(x.shape[0], -1, x.shape[axis]).tolist()
    near, apart = [0] * len(vectors), [0.0] * len(vectors)
    for i, one in enumerate(vectors):
        for j, other in enumerate(vectors):
            if i == j:
                continue
            squares = [(a - b) ** 2 for u, v in zip(one, other, strict=True) for a, b in zip(u, v, strict=True)]
            near[i] += sum(squares) / len(squares) <= radius
            for u, v in zip(one, other, strict=True):
                inner = sum(a * b for a, b in zip(u, v, strict=True))
                apart[i] += 1 - inner / (math.hypot(*u) * math.hypot(*v))
    return near, apart


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("radius", [0.5, 2.3, 4.0, 9.0])
def test_density_and_diversity_match_loops(kind: str, radius: float) -> None:
    features = drawn(kind)
    near, apart = loops(features, radius)
    distance, angle = pairwise(features)
    assert density(distance, radius).tolist() == near
    torch.testing.assert_close(diversity(angle), torch.tensor(apart, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_a_small_distance_between_large_features_survives() -> None:
    features = 1e3 + 1e-3 * torch.randn(4, 2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = (features[0].double() - features[1].double()).square().mean()
    torch.testing.assert_close(pairwise(features)[0][0, 1], expected, rtol=1e-3, atol=0)


def test_features_that_vanish_have_no_direction() -> None:
    features = drawn()
    features[2] = 0
    angle = pairwise(features)[1]
    assert bool(torch.isfinite(angle).all())
    assert angle[2, 0].item() == pytest.approx(3 * 2 * 3)


def test_normalised_reaches_from_zero_to_one() -> None:
    assert normalised(torch.tensor([3.0, 7.0, 5.0])).tolist() == [0.0, 1.0, 0.5]
    assert normalised(torch.full((3,), 4.0)).tolist() == [0.0, 0.0, 0.0]


def grid_of(features: Tensor, trajectories: int = 200, modules: tuple[str, ...] = ("conv_in", "mid.attn_1")) -> TrajectoryGrid:
    def tap(module: str, count: int) -> Tensor:
        assert module in modules
        return features[:, :count]

    return TrajectoryGrid(torch.arange(len(features)).flip(0), trajectories, modules, tap)


def select(grid: TrajectoryGrid, n: int, seed: int = 0, **options: Any) -> Selection:
    sampler = DensityDiversitySampler(DensityDiversityOptions(**options))
    return sampler.select(grid, n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weight", [0.0, 1.2, 100.0])
def test_counts_follow_density_and_weighted_diversity(weight: float) -> None:
    features, n = drawn(), 100
    near, apart = loops(features, 4.0)
    shares = [
        (d - min(near)) / (max(near) - min(near)) + weight * (v - min(apart)) / (max(apart) - min(apart))
        for d, v in zip(near, apart, strict=True)
    ]
    counts = select(grid_of(features), n, radius=4.0, weight=weight).step.bincount(minlength=7).tolist()
    assert sum(counts) == n
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - n * share / sum(shares)) <= 1.5
    assert counts == allocate(torch.tensor(shares, dtype=torch.float64), n).tolist()


def allocation_by_loops(weights: list[float], total: int) -> list[int]:
    """Rounded shares, then one more for the largest or one less from the end, step by step."""
    counts = [round(total * w / sum(weights)) for w in weights]
    raised: list[int] = []
    while sum(counts) < total:
        best = max((i for i in range(len(counts)) if i not in raised), key=lambda i: (counts[i], -i))
        counts[best] += 1
        raised.append(best)
    place = len(counts) - 1
    while sum(counts) > total:
        if counts[place] > 0:
            counts[place] -= 1
        place -= 1
    return counts


def test_counts_are_whole_not_negative_and_sum_to_the_total() -> None:
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        steps, total = (int(torch.randint(1, high, (1,), generator=generator)) for high in (60, 300))
        weights = torch.rand(steps, generator=generator, dtype=torch.float64).pow(1 + seed % 5)
        if seed % 3 == 0:
            weights = (weights * 4).round() / 4
        if seed % 7 == 0:
            weights[: steps // 2] = 0
        counts = allocate(weights, total)
        assert counts.dtype == torch.int64
        assert int(counts.sum()) == total
        assert int(counts.min()) >= 0
        if float(weights.sum()) > 0:
            assert counts.tolist() == allocation_by_loops(weights.tolist(), total)
        limit = -(-total // steps) + seed % 4
        cut = capped(counts, limit)
        assert int(cut.sum()) == total
        assert 0 <= int(cut.min()) <= int(cut.max()) <= limit
        assert bool((cut >= counts.clamp_max(limit)).all())


def test_what_is_cut_off_goes_to_the_largest_counts_with_room() -> None:
    assert capped(torch.tensor([9, 1, 4, 2]), 5).tolist() == [5, 1, 5, 5]
    assert capped(torch.tensor([3, 1]), 3).tolist() == [3, 1]


def test_extreme_weights() -> None:
    assert allocate(torch.zeros(4), 10).tolist() == [3, 3, 2, 2]
    assert allocate(torch.tensor([0.0, 0.0, 5.0]), 7).tolist() == [0, 0, 7]
    assert allocate(torch.tensor([1.0]), 3).tolist() == [3]
    assert allocate(torch.full((40,), 1e-9), 10).sum().item() == 10


def test_each_trajectory_gives_one_sample_while_there_are_enough() -> None:
    chosen = select(grid_of(drawn(), trajectories=64), 60)
    assert chosen.trajectory.unique().numel() == 60
    assert chosen.t is None


def test_trajectories_are_reused_evenly_and_no_pair_twice() -> None:
    for n in (65, 100, 112):
        chosen = select(grid_of(drawn(), trajectories=16), n)
        counts = chosen.trajectory.bincount(minlength=16)
        assert int(counts.max() - counts.min()) <= 1
        assert len(set(zip(chosen.trajectory.tolist(), chosen.step.tolist(), strict=True))) == n


def test_step_and_place_in_the_selection_are_unrelated() -> None:
    chosen = select(grid_of(drawn(), trajectories=3000), 3000)
    place = torch.arange(3000.0)
    for other in (chosen.step, chosen.trajectory):
        assert abs(float(torch.corrcoef(torch.stack([place, other.float()]))[0, 1])) < 0.1
    assert abs(float(torch.corrcoef(torch.stack([chosen.trajectory.float(), chosen.step.float()]))[0, 1])) < 0.1


def test_the_generator_decides_which_trajectories_but_not_how_many_samples_each_step_gets() -> None:
    grid = grid_of(drawn())
    first, again, other = select(grid, 50), select(grid, 50), select(grid, 50, seed=1)
    assert torch.equal(first.step, again.step) and torch.equal(first.trajectory, again.trajectory)
    assert not torch.equal(first.trajectory, other.trajectory)
    assert torch.equal(first.step.bincount(minlength=7), other.step.bincount(minlength=7))


def test_a_quantile_of_the_distances_stands_in_for_the_radius() -> None:
    features = drawn()
    distance = pairwise(features)[0]
    between = sorted(float(distance[i, j]) for i in range(7) for j in range(i))
    radius = between[round(0.5 * (len(between) - 1))]
    by_quantile, given = select(grid_of(features), 90, radius_quantile=0.5), select(grid_of(features), 90, radius=radius)
    assert torch.equal(by_quantile.step, given.step)


def test_only_the_probe_trajectories_count() -> None:
    features = drawn()
    changed = features.clone()
    changed[:, 2] = 50.0
    for probe, same in ((2, True), (3, False)):
        counts = [select(grid_of(f), 80, probe=probe).step.bincount(minlength=7) for f in (features, changed)]
        assert torch.equal(*counts) == same


def test_the_first_called_candidate_is_tapped() -> None:
    seen: list[str] = []

    def tap(module: str, count: int) -> Tensor:
        seen.append(module)
        return drawn()[:, :count]

    grid = TrajectoryGrid(torch.arange(7), 50, ("a", "b", "c"), tap)
    select(grid, 10, tap=("z", "c", "a"))
    assert seen == ["c"]
    assert DensityDiversityOptions.model_validate({"tap": ["a", "b"]}).tap == ("a", "b")


def test_one_step_takes_everything() -> None:
    assert select(grid_of(drawn()[:1]), 20).step.tolist() == [0] * 20


REFUSALS = {
    "no module": (lambda: select(grid_of(drawn(), modules=("conv_in",)), 10), "option `tap`"),
    "no features": (lambda: select(TrajectoryGrid(torch.arange(7), 50), 10), "needs the denoiser's features"),
    "too many": (lambda: select(grid_of(drawn(), trajectories=2), 15), "2 trajectories of 7 steps"),
    "radius too small": (lambda: select(grid_of(drawn()), 10, radius=1e-6), "tells no steps apart"),
    "radius too large": (lambda: select(grid_of(drawn()), 10, radius=1e6), "tells no steps apart"),
}


@pytest.mark.parametrize(("act", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_done_is_refused(act: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        act()
    assert words in f"{caught.value} {caught.value.hint}"
