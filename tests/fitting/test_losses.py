"""Loss terms summed part by part, mixed inputs, dropped activations, taps on inner layers."""

from __future__ import annotations

import pytest
import torch
from enginekit import PLAIN, unit_problem
from torch import nn

from ptqbench.errors import CellFailedError
from ptqbench.fitting.fit import UnitFit
from ptqbench.fitting.inner import UnitModules
from ptqbench.fitting.losses import UnitLoss, total
from ptqbench.fitting.unit_data import UnitData
from ptqbench.plugin.component import NoOptions
from ptqbench.quant.layer import StepContext
from ptqbench.roles.loss import LossTerm
from ptqbench.roles.reconstruction import Course, Phase, Rate
from ptqbench.roles.weighter import SampleWeighter
from ptqbench.sampling.capture import Recording
from ptqbench.sampling.rng import stream

N = 16


def kept(value):
    made = Recording()
    made.add(value, range(N), N)
    return made


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Parts(LossTerm):
    """The mean absolute error, and the squared error of the inner layers."""

    reads_layers = True

    def losses(self, outcome):
        inner = sum((outcome.layers[n] - t).square().flatten(1).sum(1) for n, t in outcome.layer_targets.items())
        return {"": (outcome.output[0] - outcome.target[0]).abs().flatten(1).mean(1), "inner": inner}


class Factors(SampleWeighter):
    """Equal weights, and given factors of single parts."""

    def __init__(self, **factors) -> None:
        super().__init__(NoOptions())
        self.factors = {name.replace("_", "."): value for name, value in factors.items()}

    def weights(self, batch, problem):
        return torch.ones(len(batch))

    def part_weights(self, batch, problem):
        return self.factors


LOSS = UnitLoss([*PLAIN.terms, ("parts", Parts(NoOptions()))])


def two_layers(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4))


def problem(loss=LOSS):
    """Two linear layers whose full-precision counterparts have other weights, on inputs of their own."""
    quantized, original = two_layers(0), two_layers(1)
    layers = {name: (quantized[int(name)], original[int(name)]) for name in "01"}
    none = torch.empty(0, dtype=torch.int64)
    x, full = numbers(2, N, 3, 5), numbers(3, N, 3, 5)
    data = UnitData(
        kept(((x,), {})),
        kept((original(full).detach(),)),
        torch.arange(N) % 5,
        torch.arange(N),
        none,
        none,
        full_inputs=kept(((full,), {})),
    )
    made = unit_problem(UnitModules(quantized, original, layers), {"0.weight": "rounding"}, data, loss=loss)
    return made, x, full


def test_terms_are_summed_part_by_part_and_see_inner_layers():
    made, x, full = problem()
    batch = made.draw(N, rng=stream(0, "b"))
    q, f = made.modules.quantized, made.modules.original
    expected = {
        "output": (q(x) - f(full)).square().sum(1).mean(1),
        "parts": (q(x) - f(full)).abs().flatten(1).mean(1),
        "parts.inner": sum((a - b).square().flatten(1).sum(1) for a, b in ((q[0](x), f[0](full)), (q(x), f(full)))),
    }
    parts = made.loss_parts(batch)
    assert list(parts) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value)
    torch.testing.assert_close(made.losses(batch), sum(expected.values()))


def fit(weighter):
    made, *_ = problem()
    phase, course = Phase("p", frozenset({"rounding"}), True, "mixed"), Course(1, N, {"rounding": Rate(0.1)})
    context = UnitFit("u", phase, course, made, weighter, stream(0, "a"), stream(0, "b"))
    context.begin()
    return context, made.draw(N, rng=stream(0, "c"))


def test_a_weighter_may_weigh_single_parts():
    factor = torch.linspace(0, 2, N)
    context, batch = fit(Factors(parts_inner=factor))
    parts = context.problem.loss_parts(batch)
    expected = (parts["output"] + parts["parts"] + factor * parts["parts.inner"]).mean()
    torch.testing.assert_close(context.weighted_loss(batch), expected)


def test_factors_of_parts_that_are_not_there_are_refused():
    context, batch = fit(Factors(haar=torch.ones(N)))
    with pytest.raises(CellFailedError, match="not there: haar"):
        context.weighted_loss(batch)


def test_one_part_without_factor_is_returned_as_it_is():
    value = torch.rand(3)
    assert total({"output": value}) is value


class Nowhere(LossTerm):
    def losses(self, outcome):
        return {}


def test_terms_of_which_none_applies_are_refused():
    made, *_ = problem(UnitLoss([("x", Nowhere(NoOptions()))]))
    with pytest.raises(CellFailedError, match="no loss term applies"):
        made.losses(made.draw(N, rng=stream(0, "b")))


def test_inputs_are_mixed_element_by_element_and_repeatably():
    made, x, full = problem()
    made.input_keep = 0.25
    everything = torch.arange(N)
    mixed = made.batch(everything, everything, seed=5).args[0]
    from_quantized = mixed == x
    assert torch.equal(mixed, torch.where(from_quantized, x, full))
    assert 0.15 < float(from_quantized.float().mean()) < 0.35
    assert torch.equal(mixed, made.batch(everything, everything, seed=5).args[0])
    assert not torch.equal(mixed, made.batch(everything, everything, seed=6).args[0])


def test_embedding_vectors_are_never_mixed():
    vector, full = numbers(0, N, 5), numbers(1, N, 5)
    none = torch.empty(0, dtype=torch.int64)
    x = kept(((vector,), {"t": torch.arange(N)}))
    other = kept(((full,), {"t": torch.arange(N)}))
    data = UnitData(x, kept((vector,)), torch.zeros(N), torch.arange(N), none, none, full_inputs=other)
    batch = data.batch(torch.arange(N), torch.arange(N), 0, keep=0.0, device=torch.device("cpu"))
    assert torch.equal(batch.args[0], vector)


def test_probability_one_keeps_every_quantized_input():
    made, x, _ = problem()
    assert torch.equal(made.batch(torch.arange(N), torch.arange(N), 0).args[0], x)


class Dropping(nn.Module):
    """Rounds its input through the context's drop, as quantized layers do."""

    def __init__(self, context):
        super().__init__()
        self.context = context

    def forward(self, x):
        return self.context.drop(x.round(), x)


def test_activations_are_dropped_by_the_seed_of_the_batch_and_only_while_fitting():
    context = StepContext(5)
    x = numbers(0, N, 4, 64)
    none = torch.empty(0, dtype=torch.int64)
    data = UnitData(kept(((x,), {})), kept((x,)), torch.zeros(N), torch.arange(N), none, none)
    made = unit_problem(Dropping(context), {}, data, context)
    made.activation_keep = 0.5
    position = torch.arange(N)
    first = made.losses(made.batch(position, position, seed=1))
    assert torch.equal(first, made.losses(made.batch(position, position, seed=1)))
    assert not torch.equal(first, made.losses(made.batch(position, position, seed=2)))
    made.activation_keep = 1.0
    whole = made.losses(made.batch(position, position, seed=1))
    assert 0.4 < float((first / whole).mean()) < 0.6
    assert context.keep == 1.0
    made.activation_keep = 0.5
    assert made.mean_loss() == pytest.approx(float(whole.mean()))


def test_drop_masks_are_ends_of_a_coin():
    context = StepContext()
    x = torch.zeros(10000)
    context.keep, context.generator = 0.3, torch.Generator().manual_seed(0)
    assert abs(float(context.drop(x + 1, x).mean()) - 0.3) < 0.02
    context.keep = 1.0
    assert torch.equal(context.drop(x + 1, x), x + 1)
