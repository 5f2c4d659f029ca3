"""TDQ: start, gradients by the chain rule through LSQ's, the table after learning, and refusals."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from quantkit import estimator
from torch import Tensor, nn
from torch.func import functional_call

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench_lsq import LsqOptions
from ptqbench_lsq.quantizer import LearnedStep
from ptqbench_tdq import TdqOptions
from ptqbench_tdq.factors import StepFactors, frequency_code, parameter_names
from ptqbench_tdq.quantizer import TimeDynamicStep

K = 4
GROUP = torch.arange(K).repeat_interleave(3)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def samples() -> Tensor:
    """Three samples for each of four steps, of a spread that grows with the step."""
    return drawn(len(GROUP), 5, 6) * (1 + GROUP[:, None, None])


def made(
    spec: QuantSpec | None = None, layout: Layout | None = None, ranges: str = "minmax", **options: Any
) -> TimeDynamicStep:
    spec = spec or QuantSpec(4, steps=K)
    return TimeDynamicStep(
        TdqOptions(**options), spec=spec, layout=layout or Layout(None), estimator=partial(estimator, ranges, spec.levels)
    )


def frozen(x: Tensor, group: Tensor = GROUP, **options: Any) -> TimeDynamicStep:
    quantizer = made(**options)
    quantizer.observe(x, group)
    quantizer.freeze()
    return quantizer


def per_step(x: Tensor, layout: Layout | None = None, spec: QuantSpec | None = None) -> LearnedStep:
    """The table of observed scales, learned directly."""
    spec = spec or QuantSpec(4, steps=K)
    table = LearnedStep(
        LsqOptions(), spec=spec, layout=layout or Layout(None), estimator=partial(estimator, "minmax", spec.levels)
    )
    table.observe(x, GROUP)
    table.freeze()
    return table


def shaken(quantizer: TimeDynamicStep) -> TimeDynamicStep:
    """Learning, with parameters away from where they start."""
    quantizer.begin_learning(None)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
    return quantizer


@pytest.mark.parametrize("layout", [Layout(None), Layout(1)])
def test_with_each_steps_base_it_starts_as_the_table_of_observed_scales(layout: Layout) -> None:
    x = samples()
    quantizer, table = frozen(x, layout=layout, base="each"), per_step(x, layout)
    expected = table(x, GROUP)
    assert torch.equal(quantizer(x, GROUP), expected)
    quantizer.begin_learning(None)
    assert torch.equal(quantizer(x, GROUP), expected)
    assert torch.equal(quantizer.export()["scale"], table.export()["scale"])
    quantizer.harden()
    assert torch.equal(quantizer(x, GROUP), expected)


@pytest.mark.parametrize("symmetric", [False, True])
def test_with_a_shared_base_it_starts_as_one_grid_over_all_steps(symmetric: bool) -> None:
    x = samples()
    quantizer = frozen(x, spec=QuantSpec(4, symmetric=symmetric, steps=K))
    static = estimator("minmax", QuantSpec(4, symmetric=symmetric).levels)
    static.observe(x.reshape(1, -1))
    scale, zero_point = static.grid()
    # Zero points of single steps are rounded before their ranges are joined: up to half a step at either end.
    torch.testing.assert_close(quantizer.scale, scale.expand(K, 1), rtol=0.0 if symmetric else 1 / 15, atol=1e-12)
    assert float((quantizer.zero_point - zero_point).abs().max()) <= (0 if symmetric else 1)
    start = quantizer(x, GROUP)
    quantizer.begin_learning(None)
    assert torch.equal(quantizer(x, GROUP), start)


@pytest.mark.parametrize("layout", [Layout(None), Layout(1)])
def test_grids_that_agree_are_shared_as_they_are(layout: Layout) -> None:
    x = drawn(3, 5, 6).repeat(K, 1, 1)
    shared, each = frozen(x, layout=layout).export(), frozen(x, layout=layout, base="each").export()
    torch.testing.assert_close(shared["scale"], each["scale"], rtol=1e-12, atol=0)
    assert torch.equal(shared["zero_point"], each["zero_point"])


def test_a_shared_base_covers_every_steps_range_and_needs_not_every_step() -> None:
    x, levels = samples(), QuantSpec(4).levels
    some = GROUP != 2
    quantizer = frozen(x[some], GROUP[some])
    table = per_step(x).export()
    joined = quantizer.export()
    assert joined["scale"].shape == (K, 1)
    for k in (0, 1, 3):
        for level, compare in ((levels.low, torch.le), (levels.high, torch.ge)):
            end = (level - joined["zero_point"][k]) * joined["scale"][k]
            own = (level - table["zero_point"][k]) * table["scale"][k]
            # Half a step may be lost where the joined zero point is rounded.
            slack = joined["scale"][k] / 2 * (1 if compare is torch.le else -1)
            assert bool(compare(end, own + slack + 1e-9 * slack.sign()))
    assert bool(torch.isfinite(quantizer(x, GROUP)).all())
    with pytest.raises(CellFailedError, match="no values were observed"):
        frozen(x[some], GROUP[some], base="each")


@pytest.mark.parametrize("layout", [Layout(None), Layout(1)])
def test_gradients_are_those_of_the_scales_carried_through_the_network(layout: Layout) -> None:
    x = samples()
    quantizer = shaken(frozen(x, layout=layout, base="each"))
    quantizer(x, GROUP).square().sum().backward()
    table = per_step(x, layout)
    table.begin_learning(None)
    base = table.scale.detach().clone()
    table.scale.data.copy_(quantizer.export()["scale"])
    table(x, GROUP).square().sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in quantizer.named_parameters()}
    quantizer.zero_grad()
    (quantizer.factors() * base * (table.log_step.grad / table.scale)).sum().backward()
    assert set(found) == {f"factors.{name}" for name in parameter_names(2)}
    for name, parameter in quantizer.named_parameters():
        assert float(parameter.grad.abs().max()) > 0
        torch.testing.assert_close(found[name], parameter.grad)


def test_the_network_is_an_exponential_of_a_chain_of_layers() -> None:
    factors = StepFactors(K, 3, frequencies=2, hidden=5, layers=2).double()
    assert torch.equal(factors(), torch.ones(K, 3, dtype=torch.float64))
    assert dict(factors.named_parameters()).keys() == set(parameter_names(2))
    with torch.no_grad():
        for i, parameter in enumerate(factors.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=i))
    values = dict(factors.named_parameters())
    h = factors.code
    for i in (0, 2, 4):
        h = h @ values[f"net.{i}.weight"].T + values[f"net.{i}.bias"]
        h = h if i == 4 else h / (1 + (-h).exp())
    torch.testing.assert_close(factors(), h.exp())


def test_twice_differentiable_in_the_networks_parameters() -> None:
    factors = StepFactors(3, 2, frequencies=1, hidden=3, layers=1).double()
    names = parameter_names(1)
    start = tuple(drawn(*factors.get_parameter(n).shape, seed=i).requires_grad_() for i, n in enumerate(names))

    def call(*values: Tensor) -> Tensor:
        return functional_call(factors, dict(zip(names, values, strict=True)), ())

    assert torch.autograd.gradcheck(call, start)
    assert torch.autograd.gradgradcheck(call, start)


def test_second_derivatives_of_a_quantized_output_in_both_modes() -> None:
    x = samples()
    quantizer = shaken(frozen(x))
    params = {name: p.detach().clone().requires_grad_() for name, p in quantizer.named_parameters()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return functional_call(quantizer, values, (x, GROUP)).square().mean()

    first = torch.autograd.grad(loss(params), list(params.values()), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), list(params.values()))
    assert all(bool(torch.isfinite(s).all()) for s in second)
    assert any(bool(s.any()) for s in second)
    tangent = {name: torch.ones_like(p) for name, p in params.items()}
    _, forward = torch.func.jvp(loss, ({n: p.detach() for n, p in params.items()},), (tangent,))
    torch.testing.assert_close(forward, sum(g.sum() for g in first).detach())


def test_frequency_code_by_hand() -> None:
    code = frequency_code(3, 2)
    expected = [[math.sin(f * math.pi * p) for f in (1, 2)] + [math.cos(f * math.pi * p) for f in (1, 2)] for p in (0, 0.5, 1)]
    torch.testing.assert_close(code, torch.tensor(expected, dtype=torch.float64))
    assert len({tuple(row) for row in frequency_code(1000, 4).tolist()}) == 1000


def test_learning_lowers_the_error_and_leaves_a_table() -> None:
    x = samples()
    quantizer = frozen(x, spec=QuantSpec(3, steps=K))
    before = float((quantizer(x, GROUP) - x).square().mean())
    quantizer.begin_learning(None)
    optimiser = torch.optim.Adam(quantizer.parameters(), lr=0.005)
    for _ in range(150):
        optimiser.zero_grad()
        (quantizer(x, GROUP) - x).square().mean().backward()
        optimiser.step()
    learned, table = quantizer(x, GROUP).detach(), quantizer.export()["scale"]
    quantizer.harden()
    assert not list(quantizer.parameters())
    assert set(quantizer.state_dict()) == {"scale", "zero_point"}
    assert torch.equal(quantizer.scale, table)
    assert torch.equal(quantizer(x, GROUP), learned)
    assert float((learned - x).square().mean()) < 0.7 * before
    # The spread of the data grows with the step, and nothing but the network knows that.
    assert float(table[3] / table[0]) > 1.5


def test_restoring_ends_the_learning_and_a_second_round_starts_from_the_table() -> None:
    x = samples()
    state = shaken(frozen(x)).export()
    quantizer = shaken(frozen(2 * x))
    quantizer.restore(state)
    assert not quantizer.learning
    assert torch.equal(quantizer.scale, state["scale"])
    expected = quantizer(x, GROUP)
    quantizer.begin_learning(None)
    quantizer.begin_learning(None)
    assert torch.equal(quantizer(x, GROUP), expected)


def test_trainables_are_steps_known_before_the_network_is_there() -> None:
    quantizer = frozen(samples(), layers=3)
    (group,) = quantizer.learnable()
    assert group.kind == "step"
    assert not list(quantizer.parameters())
    quantizer.begin_learning(None)
    assert set(group.names) == {name for name, _ in quantizer.named_parameters()}
    assert all(isinstance(quantizer.get_parameter(name), nn.Parameter) for name in group.names)


def test_building_it_draws_from_nobodys_stream() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    frozen(samples()).begin_learning(None)
    assert torch.equal(torch.rand(1), expected)


def test_a_site_without_values_below_zero_keeps_its_zero_point() -> None:
    x = samples().abs()
    quantizer = frozen(x, spec=QuantSpec(4, steps=K, nonnegative=True))
    assert torch.equal(quantizer.zero_point, torch.zeros(K, 1, dtype=torch.float64))
    torch.testing.assert_close(quantizer.scale, (x.max() / 15).expand(K, 1))


def test_a_single_step_group_is_refused() -> None:
    with pytest.raises(CellFailedError, match="steps = 1") as refused:
        made(spec=QuantSpec(4))
    assert 'activations.steps = "each"' in refused.value.hint


def test_learning_before_a_range_is_refused() -> None:
    with pytest.raises(CellFailedError, match="before its range was found"):
        made().begin_learning(None)
