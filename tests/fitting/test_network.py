"""The network's error as a function of one unit's trainables."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, unit_problem
from torch.utils._pytree import tree_map

from ptqbench.errors import CellFailedError
from ptqbench.fitting.inner import UnitProblem, trainables
from ptqbench.fitting.network import NetworkError, Predictions
from ptqbench.fitting.unit_data import UnitData
from ptqbench.roles.weighter import Batch
from ptqbench.sampling.capture import Recording

UNIT = "down"
LEARNS = frozenset({"rounding"})


@pytest.fixture(scope="module")
def quantizer(cache):
    ctx = context(cache, experiment("methods.qdiffusion.weighter=validated-ones"))
    q, made = quantized(ctx, cell_of(ctx, "qdiffusion"))
    return q, made


@pytest.fixture
def problem(quantizer) -> UnitProblem:
    """A residual block that has begun to learn, in its network."""
    q, made = quantizer
    layers = [name for name in q.layers if name.startswith(UNIT)]
    for name in layers:
        q.layers[name].begin_learning(LEARNS)
    module, s = q.module.get_submodule(UNIT), made.samples.split
    data = UnitData(Recording(), Recording(), made.samples.calibration.step, s.train, s.validation, s.group)
    problem = unit_problem(module, trainables(module, LEARNS), data, q.context)
    problem.network = NetworkError(made.samples, Predictions(made.samples), q, layers)
    yield problem
    for name in layers:
        q.layers[name].end_learning()


def batch_of(problem: UnitProblem) -> Batch:
    """Validation samples as the network needs them: by their places alone."""
    place = problem.data.validation[:4]
    return Batch(torch.arange(4), problem.data.step[place], (), {}, (), 0, place=place)


def test_the_error_is_that_of_the_network_with_this_unit_alone_quantized(problem, quantizer):
    q, made = quantizer
    batch = batch_of(problem)
    with torch.no_grad():
        full = made.samples.predict(None, batch.place)
        # Half of every step away from the weights, so that there is an error at all.
        moved = tree_map(lambda p: torch.zeros_like(p), dict(problem.params))
        found = problem.network_losses(batch, moved)
        for name, parameter in problem.params.items():
            parameter.copy_(moved[name])
        with q.only({name for name in q.layers if name.startswith(UNIT)}):
            expected = (made.samples.predict(q, batch.place) - full).square().flatten(1).mean(1)
    torch.testing.assert_close(found, expected)
    assert float(found.min()) > 0
    torch.testing.assert_close(problem.network_losses(batch), expected)


def test_its_gradient_is_that_of_finite_differences(problem):
    batch = batch_of(problem)
    params = {name: (value.detach() + 0.3).requires_grad_() for name, value in problem.params.items()}
    slopes = torch.autograd.grad(problem.network_losses(batch, params).sum(), list(params.values()))
    length = float(torch.cat([slope.flatten() for slope in slopes]).norm())
    ends = []
    for side in (0.5, -0.5):
        shifted = {n: p.detach() + side * s / length for (n, p), s in zip(params.items(), slopes, strict=True)}
        with torch.no_grad():
            ends.append(float(problem.network_losses(batch, shifted).double().sum()))
    assert ends[0] - ends[1] == pytest.approx(length, rel=0.05)


def test_evaluating_it_leaves_the_units_steps_as_they_are(problem):
    step = torch.tensor([1, 2])
    problem.context.step = step
    problem.network_losses(batch_of(problem))
    assert problem.context.step is step


def test_full_precision_is_predicted_once(quantizer):
    samples, asked = quantizer[1].samples, []

    def predict(q, index):
        asked.extend(index.tolist())
        return samples.predict(q, index)

    def fresh():
        return Predictions(dataclasses.replace(samples, predict=predict, batch=2))

    predictions = fresh()
    first = predictions.at(torch.tensor([3, 1]))
    assert torch.equal(predictions.at(torch.tensor([1, 2, 3]))[[2, 0]], first)
    assert sorted(asked) == [0, 1, 2, 3]
    # A run that goes on after an interruption asks for others first, and gets the same last bits.
    resumed = fresh()
    assert torch.equal(resumed.at(torch.tensor([2])), predictions.at(torch.tensor([2])))
    assert torch.equal(resumed.at(torch.tensor([5, 3, 1])), predictions.at(torch.tensor([5, 3, 1])))


def test_a_unit_without_its_network_says_so(problem):
    problem.network = None
    with pytest.raises(CellFailedError, match="without its network"):
        problem.network_losses(batch_of(problem))
