"""The weighter on a problem whose answer is known: bad samples and bad bands lose weight, and only where they should."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from ptqbench.errors import CellFailedError
from ptqbench.roles.loss import Outcome
from ptqbench.roles.weighter import Batch
from ptqbench_beyond import HaarOptions, SampleFrequencyOptions
from ptqbench_beyond.haar import BANDS, HaarError
from ptqbench_beyond.unknowns import low_share
from ptqbench_beyond.weighter import SampleFrequencyWeighter

N, S = 40, 4
CHECKERS = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 2)


@dataclass
class Offsets:
    """A unit that adds one learned map to its input. The right map is zero, and that is what validation asks for.

    `wrong` (N, 1, 4, 4) is what the training samples ask for instead.
    """

    wrong: Tensor
    gamma: float = 4.0
    with_output: bool = True
    timesteps: Tensor = field(default_factory=lambda: torch.tensor([900, 600, 300, 1]))
    train_steps: Tensor = field(default_factory=lambda: torch.arange(N) % S)

    def __post_init__(self) -> None:
        self.params = {"map": torch.full((1, 4, 4), 0.5, requires_grad=True)}
        self.learning_rate = {"map": 0.05}

    def draw(self, size: int, *, split: str = "train", groups: Sequence[int] | None = None, rng: Generator) -> Batch:
        index = torch.randperm(N, generator=rng)[:size]
        target = self.wrong[index] if split == "train" else torch.zeros(len(index), 1, 4, 4)
        return Batch(index, self.train_steps[index], (), {}, (target,), seed=0)

    def loss_parts(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        out = (params or self.params)["map"].expand(len(batch), 1, 4, 4)
        outcome = Outcome((out,), batch.target, batch.step, 2.0)
        plain = {"output": (out - batch.target[0]).square().sum(1).mean((1, 2))} if self.with_output else {}
        bands = HaarError(HaarOptions(gamma=self.gamma)).losses(outcome)
        return plain | {f"haar.{band}": value for band, value in bands.items()}


def fitted(problem: Any, iterations: int = 120, **options: Any) -> tuple[SampleFrequencyWeighter, Mapping[str, Tensor]]:
    """The weighter after SGD on the weighted loss, as an engine would take it, and its report."""
    weighter = SampleFrequencyWeighter(SampleFrequencyOptions(**{"every": 1, "beta": 0.0} | options))
    weighter.begin_unit("unit", "rounding", problem, torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(2)
    for _ in range(iterations):
        batch = problem.draw(16, rng=rng)
        weights = weighter.weights(batch, problem)
        factors = weighter.part_weights(batch, problem)
        assert not weights.requires_grad
        assert not any(factor.requires_grad for factor in factors.values())
        parts = problem.loss_parts(batch)
        loss = (weights * sum(value * factors.get(name, 1.0) for name, value in parts.items())).mean()
        (slope,) = torch.autograd.grad(loss, problem.params["map"])
        with torch.no_grad():
            problem.params["map"] -= problem.learning_rate["map"] * slope
    return weighter, weighter.report()


def bad_samples() -> Tensor:
    """The odd samples ask for 1 everywhere, the even ones for the right map."""
    return (torch.arange(N) % 2).float().reshape(N, 1, 1, 1).expand(N, 1, 4, 4)


def bad_checkers() -> Tensor:
    """All samples of the last step ask for a checkerboard: only hh is wrong, and only there."""
    return ((torch.arange(N) % S) == S - 1).float().reshape(N, 1, 1, 1) * 2 * CHECKERS


@cache
def with_bands(wrong: Callable[[], Tensor]) -> tuple[Offsets, SampleFrequencyWeighter, Mapping[str, Tensor]]:
    """A fit that learns the weights of bands alone: the problem as it was left, the weighter and its report."""
    problem = Offsets(wrong())
    return problem, *fitted(problem, learn="frequencies")


@pytest.mark.parametrize("normalise", ["softmax", "clamp"])
@pytest.mark.parametrize("learn", ["samples", "both"])
def test_samples_that_pull_away_from_validation_lose_weight(learn: str, normalise: str) -> None:
    problem, (equal, *_) = Offsets(bad_samples()), with_bands(bad_samples)
    _, report = fitted(problem, learn=learn, normalise=normalise)
    bad = torch.arange(N) % 2 == 1
    assert float(report["weights"].mean()) == pytest.approx(1, abs=1e-5)
    assert float(report["weights"][bad].mean()) < 0.4 * float(report["weights"][~bad].mean())
    with torch.no_grad():
        assert float(problem.params["map"].abs().mean()) < 0.7 * float(equal.params["map"].abs().mean())


def test_a_band_that_pulls_away_from_validation_loses_weight_at_its_steps() -> None:
    bands = with_bands(bad_checkers)[2]["bands"]
    torch.testing.assert_close(bands.sum(1), torch.ones(S))
    assert float(bands[S - 1, 3]) < 0.1
    # The other steps ask for the right map, and the checkerboard is what the unit has wrong: it should count there.
    assert float(bands[: S - 1, 3].min()) > 0.4


def test_what_is_not_learned_stays_exactly_equal() -> None:
    problem, frozen, report = with_bands(bad_samples)
    assert torch.equal(report["weights"], torch.ones(N))
    batch = problem.draw(5, rng=torch.Generator().manual_seed(0))
    assert torch.equal(frozen.weights(batch, problem), torch.ones(5))
    single, report = fitted(Offsets(bad_checkers()), iterations=5, learn="samples")
    assert "bands" not in report
    assert single.part_weights(batch, problem) == {}


def test_a_unit_without_bands_learns_its_samples_alone() -> None:
    weighter, report = fitted(Offsets(bad_samples(), gamma=0.0), iterations=5)
    assert weighter.part_weights(Offsets(bad_samples()).draw(3, rng=torch.Generator()), Offsets(bad_samples())) == {}
    assert "bands" not in report
    assert float(report["weights"].std()) > 0


def test_the_regulariser_keeps_the_low_share_from_rising() -> None:
    """Left alone, the low band grows at the last step, where the checkerboard is wrong."""
    free = with_bands(bad_checkers)[2]["bands"]
    held = fitted(Offsets(bad_checkers()), learn="frequencies", beta=3.0)[1]["bands"]
    assert float((low_share(free)[1:] - low_share(free)[:-1]).max()) > 0.1
    assert float((low_share(held)[1:] - low_share(held)[:-1]).max()) < 0.05


def test_updates_come_at_every_kth_batch_and_are_reported() -> None:
    for learn in ("both", "samples", "frequencies"):
        _, report = fitted(Offsets(bad_samples()), iterations=7, learn=learn, every=3)
        assert len(report["validation"]) == len(report["regulariser"]) == 3
        assert float(report["validation"].min()) > 0
        assert report["step"].shape == report["weights"].shape == (N,)


def test_a_unit_starts_anew() -> None:
    problem = Offsets(bad_samples())
    weighter, _ = fitted(problem, iterations=10)
    weighter.begin_unit("next", "rounding", problem, torch.Generator())
    report = weighter.report()
    assert torch.equal(report["weights"], torch.ones(N))
    assert torch.equal(report["bands"], torch.full((S, len(BANDS)), 0.25))


def test_a_loss_of_bands_alone_is_refused() -> None:
    with pytest.raises(CellFailedError, match='no term beside "haar"'):
        fitted(Offsets(bad_samples(), with_output=False))


def test_it_asks_for_a_validation_split() -> None:
    weighter = SampleFrequencyWeighter(SampleFrequencyOptions(validation=0.2, groups=3))
    assert (weighter.requires.validation, weighter.requires.groups) == (0.2, 3)
    one = SampleFrequencyWeighter(SampleFrequencyOptions(learn="samples"))
    assert weighter.cost - 1 == pytest.approx(2 * (one.cost - 1))
