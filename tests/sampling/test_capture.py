"""What units see and produce, captured by hooks."""

import pytest
import torch
from torch import nn

from ptqbench.errors import CellFailedError
from ptqbench.sampling import capture
from ptqbench.sampling.capture import groups_within, record, record_one
from ptqbench.stage import spill

CPU = torch.device("cpu")


class Mixer(nn.Module):
    """Takes positional and keyword inputs, tensors and others, and returns two outputs."""

    def forward(self, x, table, *, shift, how="plain", extra=None):
        assert how == "plain"
        return x + shift[:, None] + table, x * 2


class Net(nn.Module):
    """Counts how far each forward pass gets."""

    def __init__(self):
        super().__init__()
        self.first, self.mix, self.last, self.unused = nn.Linear(3, 3), Mixer(), nn.Linear(3, 3), nn.Linear(3, 3)
        self.started = self.finished = 0

    def forward(self, x, shift):
        self.started += 1
        a, b = self.mix(self.first(x), torch.ones(1, 3), shift=shift, extra=["kept"])
        out = self.last(a + b)
        self.finished += 1
        return out


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


X, SHIFT = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.arange(7.0)


def recorded(net, *names, batch=3, inputs=True, outputs=True):
    modules = {name: net.get_submodule(name) for name in names}
    run = lambda piece: net(X[piece.start : piece.stop], SHIFT[piece.start : piece.stop])  # noqa: E731
    single = record_one(run, modules, inputs=inputs, outputs=outputs)
    net.started = net.finished = 0
    return record(run, modules, single, total=7, batch=batch, inputs=inputs, outputs=outputs)


def direct(net, name):
    """Inputs and outputs of a module in one plain forward pass."""
    seen = []
    handle = net.get_submodule(name).register_forward_hook(
        lambda _, args, kwargs, out: seen.append((args, kwargs, out)), with_kwargs=True
    )
    with torch.no_grad():
        net(X, SHIFT)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_inputs_and_outputs_are_those_of_a_direct_pass(net, batch):
    (ins, outs), (last_in, last_out) = recorded(net, "mix", "last", batch=batch).values()
    args, _, out = direct(net, "mix")
    some = torch.tensor([6, 0, 3])
    got_args, got_kwargs = ins.take(some, CPU)
    torch.testing.assert_close(got_args[0], args[0][some])
    torch.testing.assert_close(got_args[1].expand(3, 3), args[1].expand(3, 3))
    assert torch.equal(got_kwargs["shift"], SHIFT[some])
    assert got_kwargs["extra"] == ["kept"]
    for got, expected in zip(outs.take(some, CPU), out, strict=True):
        torch.testing.assert_close(got, expected[some])
    args, _, out = direct(net, "last")
    torch.testing.assert_close(last_in.take(some, CPU)[0][0], args[0][some])
    torch.testing.assert_close(last_out.take(some, CPU)[0], out[some])


def test_the_batch_changes_nothing_bit_for_bit_in_what_is_not_a_matrix_product(net):
    one, all_at_once = recorded(net, "mix", batch=2), recorded(net, "mix", batch=7)
    torch.testing.assert_close(one["mix"][1].tensors, all_at_once["mix"][1].tensors, rtol=1e-6, atol=1e-6)


def test_a_pass_ends_when_everything_has_been_seen(net):
    recorded(net, "first", batch=3)
    assert (net.started, net.finished) == (3, 0)
    recorded(net, "mix", inputs=True, outputs=False, batch=7)
    assert net.finished == 0


@pytest.mark.parametrize(("fits", "place"), [(True, "meta"), (False, "cpu")])
def test_samples_stay_beside_the_network_as_far_as_they_fit(monkeypatch, fits, place):
    asked = []
    monkeypatch.setattr(capture, "fits_on", lambda device, needed: asked.append((device.type, needed)) or fits)
    made = capture._storage(torch.empty(2, 3, 5, dtype=torch.float16, device="meta"), total=7)
    assert (made.shape, made.dtype, made.device.type) == ((7, 3, 5), torch.float16, place)
    assert asked == [("meta", 7 * 3 * 5 * 2)]


def test_recordings_that_lie_in_files_have_the_same_bits(net, monkeypatch):
    plain = recorded(net, "first", "mix")
    monkeypatch.setattr(spill, "SPILL_FROM", 1)
    for name, found in recorded(net, "first", "mix").items():
        for kept, expected in zip(found, plain[name], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(kept.tensors, expected.tensors, strict=True))


def test_only_what_is_asked_for_is_kept(net):
    ins, outs = recorded(net, "last", outputs=False)["last"]
    assert ins.filled == 7
    assert outs.leaves == []
    ins, outs = recorded(net, "last", inputs=False)["last"]
    assert ins.leaves == []
    assert outs.bytes_per_sample == 12


def test_hooks_are_gone_afterwards_also_after_an_error(net):
    def broken(_):
        raise RuntimeError("oh")

    with pytest.raises(RuntimeError, match="oh"):
        record(broken, {"mix": net.mix}, {}, total=2, batch=2, inputs=True, outputs=True)
    recorded(net, "mix")
    assert not net.mix._forward_hooks
    assert not net.mix._forward_pre_hooks


def test_a_module_that_never_runs_is_named(net):
    with pytest.raises(CellFailedError, match="never called during a forward pass: unused"):
        recorded(net, "first", "unused")


def test_a_module_called_twice_is_seen_at_its_first_call():
    twice = nn.Identity()
    net = nn.Sequential(twice, nn.Linear(3, 3), twice)
    ins, _ = record(lambda piece: net(X[piece.start : piece.stop]), {"t": twice}, {}, total=7, batch=4, inputs=True,
                    outputs=True)["t"]  # fmt: skip
    assert torch.equal(ins.tensors[0], X)


class Doubling(nn.Module):
    """Gives two rows for each sample, as guidance does."""

    def forward(self, x):
        return torch.cat([x, x])


@pytest.mark.parametrize("module", [Doubling(), nn.LSTM(3, 3)], ids=["two rows a sample", "nested outputs"])
def test_outputs_that_are_not_one_row_a_sample_are_refused(module):
    with pytest.raises(CellFailedError, match="one row for each sample"):
        record(lambda piece: module(X[piece.start : piece.stop]), {"m": module}, {}, total=7, batch=4, inputs=True,
               outputs=True)  # fmt: skip


class Table(nn.Module):
    """Gets a table beside its samples."""

    def forward(self, x, table):
        return x @ table


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_a_constant_as_long_as_a_batch_is_no_sample(batch):
    table = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    module = Table()
    run = lambda piece: module(X[piece.start : piece.stop], table)  # noqa: E731
    single = record_one(run, {"m": module}, inputs=True, outputs=True)
    ins, _ = record(run, {"m": module}, single, total=7, batch=batch, inputs=True, outputs=True)["m"]
    (x, found), _ = ins.take(torch.tensor([6, 0]), CPU)
    assert torch.equal(x, X[[6, 0]])
    assert torch.equal(found, table)
    assert ins.bytes_per_sample == 12


def test_values_that_differ_in_number_with_the_batch_are_refused():
    module = nn.Identity()
    run = lambda piece: module([X[i] for i in piece])  # noqa: E731
    single = record_one(run, {"m": module}, inputs=True, outputs=False)
    with pytest.raises(CellFailedError, match="3 values in a batch of 3 and 1 for one sample"):
        record(run, {"m": module}, single, total=7, batch=3, inputs=True, outputs=False)


def test_inputs_with_several_rows_for_each_sample_are_refused():
    """They were kept from the first batch alone, and then stood beside other samples."""
    module = Mixer()

    def run(piece):
        x = X[piece.start : piece.stop]
        return module(x, torch.ones(1, 3), shift=x.flatten())

    single = record_one(run, {"m": module}, inputs=True, outputs=False)
    with pytest.raises(CellFailedError, match=r"a tensor \(3,\) for one sample and \(9,\) for 3"):
        record(run, {"m": module}, single, total=7, batch=3, inputs=True, outputs=False)


def test_groups_stay_within_the_budget():
    sizes = {"a": 4, "b": 5, "c": 1, "d": 20, "e": 2}
    assert groups_within(sizes, 10) == [["a", "b", "c"], ["d"], ["e"]]
    assert groups_within(sizes, 100) == [list(sizes)]
    assert groups_within(sizes, 1) == [[name] for name in sizes]
    assert groups_within({}, 1) == []
