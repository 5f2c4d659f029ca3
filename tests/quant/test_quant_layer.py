"""Quantized layers: every kind of convolution, partitions, learning and its end."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from quantkit import Factory
from torch import nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.layer import QuantLayer, StepContext
from ptqbench.quant.plan import LayerPlan

CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel_size": 3, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    for stride, padding, dilation, groups, bias in itertools.product((1, 2), (0, 1, "same"), (1, 2), (1, 2), (True, False))
    if not (padding == "same" and stride == 2)
]


def layer(inner: nn.Module, weight: QuantSpec | None, activation: QuantSpec | None = None, **options: Any) -> QuantLayer:
    """A quantized layer with its weight grids found."""
    factory = Factory(options.pop("weights", "uniform"), options.pop("activations", "uniform"))
    plan = LayerPlan("layer", type(inner).__name__, weight, activation, **options)
    made = QuantLayer(inner.requires_grad_(False), plan, factory, StepContext())
    made.find_weight_grids()
    return made


def with_ranges(made: QuantLayer, x: torch.Tensor) -> QuantLayer:
    """The layer after its activation ranges were found on x."""
    made.observe_activations = True
    made(x)
    made.observe_activations = False
    for part in made.partitions():
        part.activation.freeze()
    made.quantize_activations = True
    return made


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_convolutions_of_every_kind(kind: type[nn.Conv1d | nn.Conv2d], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    inner = kind(4, 6, **options)
    x = torch.randn(2, 4, *[9] * (1 if kind is nn.Conv1d else 2))
    assert torch.equal(layer(inner, None)(x), inner(x))
    made = layer(inner, QuantSpec(4, "channel"))
    expected = kind(4, 6, **options)
    expected.load_state_dict({**inner.state_dict(), "weight": made.baked})
    assert torch.equal(made(x), expected(x))
    assert made.baked.shape == inner.weight.shape
    assert all(row.unique().numel() <= 16 for row in made.baked.flatten(1))


def test_circular_padding_is_kept() -> None:
    inner = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(layer(inner, None)(x), inner(x))


def test_linear_on_vectors_and_tokens() -> None:
    inner = nn.Linear(5, 7)
    made = layer(inner, QuantSpec(4, "channel"))
    for shape in ((3, 5), (3, 4, 5)):
        x = torch.randn(shape)
        assert torch.equal(made(x), nn.functional.linear(x, made.baked, inner.bias))


@pytest.mark.parametrize("inner", [nn.Conv2d(6, 4, 1), nn.Linear(6, 4)])
def test_activations_are_quantized_at_the_input(inner: nn.Module) -> None:
    x = torch.randn(2, 6, 5, 5) if isinstance(inner, nn.Conv2d) else torch.randn(2, 5, 6)
    for per in ("tensor", "channel"):
        made = with_ranges(layer(inner, QuantSpec(8, "channel"), QuantSpec(4, per)), x)
        part = made.partitions()[0]
        quantized = part.activation(x)
        assert part.activation.scale.shape == (1, 1 if per == "tensor" else 6)
        assert not torch.equal(quantized, x)
        made.quantize_activations = False
        expected = made(quantized)
        made.quantize_activations = True
        assert torch.equal(made(x), expected)


def test_split_with_equal_quantizers_equals_no_split() -> None:
    torch.manual_seed(0)
    inner, x = nn.Conv2d(6, 4, 3, padding=1), torch.randn(2, 6, 5, 5)
    specs = QuantSpec(4, "channel"), QuantSpec(4)
    whole = with_ranges(layer(inner, *specs), x)
    split = with_ranges(layer(inner, *specs, partitions=(4, 2)), x)
    own = split(x)
    grid = whole.export()
    state = dict(split.export())
    for i, (start, stop) in enumerate(((0, 4), (4, 6))):
        state |= {f"{key[0]}.{i}{key[3:]}": value for key, value in grid.items()}
        state[f"w.{i}.codes"] = grid["w.0.codes"][:, start:stop]
    split.restore(state)
    assert not torch.equal(own, whole(x))
    assert torch.equal(split(x), whole(x))


def test_split_halves_have_their_own_grids() -> None:
    torch.manual_seed(0)
    inner, x = nn.Conv2d(6, 4, 1), torch.randn(2, 6, 5, 5)
    x[:, 4:] *= 50
    made = with_ranges(layer(inner, QuantSpec(4, "channel"), QuantSpec(8), partitions=(4, 2)), x)
    first, second = (part.activation for part in made.partitions())
    assert second.scale.item() > 20 * first.scale.item()
    by_hand = torch.cat([first(x[:, :4]), second(x[:, 4:])], dim=1)
    assert torch.equal(made(x), nn.functional.conv2d(by_hand, made.baked, inner.bias))


def test_partitions_must_divide_the_channels() -> None:
    with pytest.raises(CellFailedError, match=r"layer: partitions \(4, 3\)"):
        layer(nn.Conv2d(6, 4, 1), QuantSpec(4), partitions=(4, 3))
    with pytest.raises(CellFailedError, match="partitions"):
        layer(nn.Conv2d(8, 4, 1, groups=2), QuantSpec(4), partitions=(2, 2))


def test_the_penalty_covers_both_halves_of_a_split() -> None:
    made = layer(nn.Conv2d(6, 4, 1), QuantSpec(4, "channel"), partitions=(4, 2), weights="adaround")
    made.begin_learning(frozenset({"rounding"}))
    parts = [part.weight for part in made.partitions()]
    assert sum(part.alpha.numel() for part in parts) == made.weight.numel()
    for part in parts:
        part.penalty(1.0).backward()
        assert bool((part.alpha.grad != 0).any())


def test_ending_the_learning_of_steps_leaves_a_restored_rounding_alone() -> None:
    torch.manual_seed(0)
    inner, x = nn.Conv2d(3, 4, 1), torch.randn(2, 3, 5, 5)
    specs = QuantSpec(3, "channel"), QuantSpec(4)
    made = with_ranges(layer(inner, *specs, weights="adaround", activations="lsq"), x)
    nearest = made.baked
    made.begin_learning(frozenset({"rounding"}))
    alpha = made.partitions()[0].weight.alpha
    alpha.data.neg_()
    made.end_learning()
    learned = made.baked
    assert not torch.equal(learned, nearest)
    again = layer(inner, *specs, weights="adaround", activations="lsq")
    again.restore(made.export())
    again.quantize_activations = True
    again.begin_learning(frozenset({"step"}))
    again.end_learning()
    assert torch.equal(again.baked, learned)
    assert all(torch.equal(value, again.export()[key]) for key, value in made.export().items())


def test_learning_is_seen_at_once_and_baked_at_the_end() -> None:
    torch.manual_seed(0)
    inner, x = nn.Linear(5, 4), torch.randn(3, 5)
    made = layer(inner, QuantSpec(3, "channel"), weights="adaround")
    made.begin_learning(frozenset({"step"}))
    assert made.baked.numel()
    made.begin_learning(frozenset({"rounding"}))
    before = made(x)
    made.partitions()[0].weight.alpha.data.fill_(-5)
    assert not torch.equal(made(x), before)
    made.end_learning()
    assert torch.equal(made(x), nn.functional.linear(x, made.baked, inner.bias))
    assert not [name for name, _ in made.named_parameters() if name.endswith("alpha")]


@pytest.mark.parametrize("seeing", [True, False])
def test_rows_of_unknown_samples_are_refused_where_grids_differ_by_step(seeing: bool) -> None:
    """Guidance doubles a batch as cat([x, x]): which step a row is at cannot be told from their number."""
    x, context = torch.randn(4, 6), StepContext(2, torch.tensor([0, 0, 1, 1]))
    plan = LayerPlan("deep.layer", "Linear", None, QuantSpec(8, steps=2))
    made = with_ranges(QuantLayer(nn.Linear(6, 3).requires_grad_(False), plan, Factory(), context), x)
    made.observe_activations, made.quantize_activations = seeing, not seeing
    with pytest.raises(CellFailedError, match=r"deep\.layer gets 8 rows for 4 samples") as refused:
        made(torch.cat([x, x]))
    assert "activations.steps = 1" in refused.value.hint
    shared = layer(nn.Linear(6, 3), None, QuantSpec(8))
    shared.context.step = context.step
    assert len(with_ranges(shared, x)(torch.cat([x, x]))) == 8


def test_the_input_may_be_given_by_the_name_that_torch_has_for_it() -> None:
    x = torch.randn(2, 4)
    made = layer(nn.Linear(4, 3), QuantSpec(8, "channel"))
    assert torch.equal(made(input=x), made(x))
