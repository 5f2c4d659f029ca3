"""The uniform quantizer's life cycle, and parameters per step group."""

from __future__ import annotations

import pytest
import torch
from quantkit import OUT_CHANNEL, PER_TENSOR, frozen, quantizer

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import Layout, QuantSpec

KINDS = ["uniform", "adaround", "lsq"]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_to_run_before_freeze(kind: str) -> None:
    made = quantizer(kind)
    for grad in (True, False):
        with torch.set_grad_enabled(grad), pytest.raises(CellFailedError, match="before its range was found"):
            made(drawn(4, 3))
    made.observe(drawn(4, 3))
    with pytest.raises(CellFailedError, match="before its range was found"):
        made(drawn(4, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_observing_nothing_fails(kind: str) -> None:
    with pytest.raises(CellFailedError, match="no values were observed"):
        quantizer(kind).freeze()


def test_a_step_group_without_values_is_named() -> None:
    made = quantizer("uniform", QuantSpec(8, steps=3))
    made.observe(drawn(4, 3), torch.tensor([0, 0, 2, 2]))
    with pytest.raises(CellFailedError, match=r"step group \[1\]"):
        made.freeze()


def test_observing_without_steps_or_with_odd_rows_is_refused() -> None:
    made = quantizer("uniform", QuantSpec(8, steps=2))
    with pytest.raises(ValueError, match="without a step"):
        made.observe(drawn(4, 3))
    with pytest.raises(ValueError, match="do not divide"):
        made.observe(drawn(5, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", ["uniform", "lsq"])
@pytest.mark.parametrize("layout", [PER_TENSOR, Layout(-1)])
def test_a_table_of_equal_entries_is_the_shared_quantizer(kind: str, layout: Layout) -> None:
    x = drawn(6, 5, 4)
    shared = frozen(x, kind, QuantSpec(4), layout)
    table = quantizer(kind, QuantSpec(4, steps=3), layout)
    table.restore({key: value.expand(3, -1).clone() for key, value in shared.export().items()})
    group = torch.tensor([2, 0, 1, 1, 0, 2])
    assert torch.equal(table(x, group), shared(x, group))
    table.begin_learning(None)
    shared.begin_learning(None)
    torch.testing.assert_close(table(x, group), shared(x, group), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["uniform", "lsq"])
def test_batches_of_mixed_steps_equal_step_by_step_evaluation(kind: str) -> None:
    x, group = drawn(6, 5, 4), torch.tensor([2, 0, 1, 1, 0, 2])
    x = x * (1 + group).reshape(-1, 1, 1)
    mixed, apart = (quantizer(kind, QuantSpec(4, steps=3)) for _ in range(2))
    mixed.observe(x, group)
    for i in range(6):
        apart.observe(x[i : i + 1], group[i : i + 1])
    mixed.freeze()
    apart.freeze()
    assert torch.equal(mixed.scale, apart.scale)
    assert mixed.scale.unique().numel() == 3
    together = mixed(x, group)
    for i in range(6):
        assert torch.equal(together[i : i + 1], mixed(x[i : i + 1], group[i : i + 1]))


def test_rows_that_are_a_multiple_of_the_batch_take_their_samples_step() -> None:
    x, group = drawn(8, 5), torch.tensor([1, 0])
    made = quantizer("uniform", QuantSpec(4, steps=2))
    made.observe(x, group)
    made.freeze()
    assert torch.equal(made(x, group), made(x, group.repeat_interleave(4)))
    alone = frozen(x[:4], "uniform", QuantSpec(4))
    assert torch.equal(made(x, group)[:4], alone(x[:4]))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("layout", [PER_TENSOR, OUT_CHANNEL])
def test_in_inference_mode_the_numbers_are_the_same(bits: int, layout: Layout) -> None:
    made = frozen(drawn(16, 8), "uniform", QuantSpec(bits), layout)
    x = 4 * drawn(16, 8) + 0.5  # many values lie outside the grid
    plain, before = made(x), x.clone()
    with torch.inference_mode():
        assert torch.equal(made(x), plain)
    assert torch.equal(x, before)


def test_zero_points_outside_the_grid_are_taken() -> None:
    x = drawn(64).abs() + 3
    made = frozen(x, "uniform", QuantSpec(4), ranges="mse")
    assert made.zero_point.item() < 0
    with torch.inference_mode():
        torch.testing.assert_close(made(x).double(), frozen(x.double(), "uniform", QuantSpec(4), ranges="mse")(x.double()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [PER_TENSOR, OUT_CHANNEL])
def test_export_and_restore_are_inverse(kind: str, layout: Layout) -> None:
    x = drawn(6, 5)
    made = frozen(x, kind, QuantSpec(4, "channel"), layout)
    state = made.export(x)
    again = quantizer(kind, QuantSpec(4, "channel"), layout)
    again.restore(state)
    assert torch.equal(again(x), made(x))
    assert all(torch.equal(value, again.export(x)[key]) for key, value in state.items())


def test_updates_count_samples_where_calls_see_other_numbers_of_rows():
    """A layer that is called with four rows of each sample, and then with one."""
    made = quantizer("uniform", QuantSpec(8), ranges="ema")
    rows, group = drawn(10 * 4, 5), torch.zeros(10, dtype=torch.int64)
    made.observe(rows, group)
    more = drawn(30, 5)
    made.observe(more, torch.zeros(30, dtype=torch.int64))
    made.freeze()
    low = high = None
    for update in (torch.cat([rows, more[:6]]), more[6:22], more[22:]):
        a, b = update.amin(), update.amax()
        low, high = (a, b) if low is None else (0.95 * low + 0.05 * a, 0.95 * high + 0.05 * b)
    assert made.scale.item() == pytest.approx(float(high - low) / 255, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("heads", [1, 2])
def test_updates_of_a_moving_average_do_not_depend_on_the_batch(steps: int, heads: int) -> None:
    """40 samples in updates of 16; `heads` rows of x for each sample. Each step group counts its own samples."""
    x = drawn(40 * heads, 5) * torch.arange(1.0, 40 * heads + 1)[:, None]
    group = torch.arange(40) % steps
    tables = []
    for size in (40, 16, 7, 1):
        made = quantizer("uniform", QuantSpec(8, steps=steps), ranges="ema")
        for part in torch.arange(40).split(size):
            made.observe(x.unflatten(0, (40, heads))[part].flatten(0, 1), group[part])
        made.freeze()
        tables.append(made.scale)
    assert all(torch.equal(table, tables[0]) for table in tables)
    for slot in range(steps):
        seen = x.unflatten(0, (40, heads))[group == slot].flatten(1)
        low, high = seen[:16].amin(), seen[:16].amax()
        for update in seen.split(16)[1:]:
            low, high = 0.95 * low + 0.05 * update.amin(), 0.95 * high + 0.05 * update.amax()
        assert tables[0][slot].item() == pytest.approx(float(high - low) / 255, rel=1e-5)


@pytest.mark.parametrize("kind", ["uniform", "adaround"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_codes_of_sixteen_bits_do_not_wrap(kind: str, symmetric: bool) -> None:
    x = drawn(4, 300)
    made = frozen(x, kind, QuantSpec(16, "channel", symmetric), OUT_CHANNEL)
    scale, zero_point = (table[0][:, None] for table in (made.scale, made.zero_point))
    for _ in range(2):
        codes = made.codes(x)
        assert float(((codes - zero_point) * scale - x).abs().max()) <= float(scale.max())
        if kind == "adaround":
            made.begin_learning(x)
            made.harden()
