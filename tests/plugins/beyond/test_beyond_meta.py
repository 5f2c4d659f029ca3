"""The meta-gradient of sample and band weights against finite differences of the plainly written meta loss, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from metakit import Rounded
from torch import Tensor
from torch.func import functional_call

from ptqbench_beyond import SampleFrequencyOptions
from ptqbench_beyond.haar import BANDS, haar
from ptqbench_beyond.meta import meta_gradient
from ptqbench_beyond.unknowns import BandWeights, SampleWeights, weighed

B, S = 6, 4
STEP = torch.tensor([0, 2, 2, 3, 1, 0])
RATES = {"alpha": 0.8, "scale": 0.05}


@dataclass
class Data:
    """A module, its training losses by part, and its validation error, as functions of the trainables."""

    params: dict[str, Tensor]
    parts: Callable[[Any], dict[str, Tensor]]
    validation: Callable[[Any], Tensor]


@pytest.fixture
def data() -> Data:
    module = Rounded()
    g = torch.Generator().manual_seed(1)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        shapes = (n, 2, 4, 4), (n, 4, 4, 4)
        return tuple(torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)  # type: ignore[return-value]

    (x, y), (x_held, y_held) = draw(B), draw(4)

    def parts(params: Any) -> dict[str, Tensor]:
        difference = functional_call(module, dict(params), (x,)) - y
        bands = haar(difference)
        return {"output": difference.square().sum(1).mean((1, 2))} | {
            f"haar.{band}": 0.7 / 4 * bands[band].square().sum(1).mean((1, 2)) for band in BANDS
        }

    def validation(params: Any) -> Tensor:
        return (functional_call(module, dict(params), (x_held,)) - y_held).square().sum(1).mean()

    params = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    return Data(params, parts, validation)


def training_loss(data: Data, params: Any, weights: Tensor, table: Tensor) -> Tensor:
    """mean_i w_i (l_i + sum_k 4 lambda_{t_i,k} l_ik), written out sample by sample."""
    parts = data.parts(params)
    total = 0.0
    for i in range(B):
        own = parts["output"][i]
        for k, band in enumerate(BANDS):
            own = own + 4 * table[STEP[i], k] * parts[f"haar.{band}"][i]
        total = total + weights[i] * own
    return total / B


def step_sizes(data: Data, weights: Tensor, table: Tensor, rms: bool) -> dict[str, float]:
    if not rms:
        return RATES
    theta = {n: p.clone().requires_grad_() for n, p in data.params.items()}
    slopes = torch.autograd.grad(training_loss(data, theta, weights, table), list(theta.values()))
    return {n: RATES[n] / float(s.square().mean().sqrt()) for n, s in zip(theta, slopes, strict=True)}


def meta_loss(data: Data, weights: Tensor, table: Tensor, eta: dict[str, float]) -> float:
    """The validation error after a step of fixed step sizes."""
    theta = {n: p.clone().requires_grad_() for n, p in data.params.items()}
    slopes = torch.autograd.grad(training_loss(data, theta, weights, table), list(theta.values()))
    star = {n: theta[n].detach() - eta[n] * s for n, s in zip(theta, slopes, strict=True)}
    return float(data.validation(star))


def differences(at: Tensor, value: Callable[[Tensor], float], h: float = 1e-4) -> Tensor:
    found = torch.zeros_like(at)
    for i in range(at.numel()):
        bump = torch.zeros_like(at)
        bump.view(-1)[i] = h
        found.view(-1)[i] = (value(at + bump) - value(at - bump)) / (2 * h)
    return found


@pytest.fixture
def table() -> Tensor:
    rows = torch.rand(S, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.2
    return rows / rows.sum(1, keepdim=True)


@pytest.fixture
def weights() -> Tensor:
    w = torch.rand(B, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.5
    return w / w.mean()


@pytest.mark.parametrize("rms", [False, True])
def test_band_weights(data: Data, table: Tensor, weights: Tensor, rms: bool) -> None:
    bands = BandWeights(S, torch.device("cpu"), SampleFrequencyOptions())
    leaf = table.clone().requires_grad_()
    found = meta_gradient(
        lambda p: (weights * weighed(data.parts(p), bands.factors(STEP, leaf))).mean(),
        data.validation, leaf, data.params, RATES, rms=rms,
    )  # fmt: skip
    eta = step_sizes(data, weights, table, rms)
    assert found is not None
    assert found.value == pytest.approx(meta_loss(data, weights, table, eta))
    expected = differences(table, lambda t: meta_loss(data, weights, t, eta))
    torch.testing.assert_close(found.slope, expected, rtol=1e-5, atol=1e-10)
    assert float(expected.abs().median()) > 1e-6


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("normalise", ["softmax", "clamp"])
def test_sample_scores(data: Data, table: Tensor, normalise: Any, rms: bool) -> None:
    samples = SampleWeights(B, torch.device("cpu"), SampleFrequencyOptions(normalise=normalise))
    bands = BandWeights(S, torch.device("cpu"), SampleFrequencyOptions())
    scores = torch.rand(B, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.1

    def by_hand(s: Tensor) -> Tensor:
        positive = s.exp() if normalise == "softmax" else s
        return positive * B / positive.sum()

    leaf = scores.clone().requires_grad_()
    factors = bands.factors(STEP, table)
    found = meta_gradient(
        lambda p: (samples.normalised(leaf) * weighed(data.parts(p), factors)).mean(),
        data.validation, leaf, data.params, RATES, rms=rms,
    )  # fmt: skip
    eta = step_sizes(data, by_hand(scores), table, rms)
    assert found is not None
    expected = differences(scores, lambda s: meta_loss(data, by_hand(s), table, eta))
    torch.testing.assert_close(found.slope, expected, rtol=1e-5, atol=1e-10)


def test_a_plain_weight_counts_minus_the_product_of_gradients(data: Data, table: Tensor, weights: Tensor) -> None:
    """-<grad l_i, eta grad V(theta*)> / B, each gradient on its own."""
    leaf = weights.clone().requires_grad_()
    factors = BandWeights(S, torch.device("cpu"), SampleFrequencyOptions()).factors(STEP, table)
    found = meta_gradient(
        lambda p: (leaf * weighed(data.parts(p), factors)).mean(), data.validation, leaf, data.params, RATES, rms=False
    )
    theta = {n: p.clone().requires_grad_() for n, p in data.params.items()}
    each = [torch.autograd.grad(weighed(data.parts(theta), factors)[i], list(theta.values())) for i in range(B)]
    star = {
        n: (theta[n].detach() - RATES[n] * sum(weights[i] * each[i][k] for i in range(B)) / B).requires_grad_()
        for k, n in enumerate(theta)
    }
    pull = torch.autograd.grad(data.validation(star), list(star.values()))
    expected = [-sum((a * RATES[n] * b).sum() for n, a, b in zip(theta, each[i], pull, strict=True)) / B for i in range(B)]
    assert found is not None
    torch.testing.assert_close(found.slope, torch.stack(expected))


def test_a_loss_that_does_not_move_the_unit_teaches_nothing(data: Data, weights: Tensor) -> None:
    leaf = weights.clone().requires_grad_()
    flat = lambda p: (leaf * 0.0 * sum(v.sum() for v in p.values())).mean()  # noqa: E731
    assert meta_gradient(flat, data.validation, leaf, data.params, RATES, rms=True) is None
