"""Quantizers say which kinds of trainables they offer; a kind that no shipped reconstruction knows is learned like any."""

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, run_cell

from ptqbench.fitting.method import has_work, phases_with_work
from ptqbench.plugin.manager import PluginManager
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench.results.costs import FAILED
from ptqbench.roles.reconstruction import Phase
from ptqbench.running.run import run_experiment
from ptqbench.stage.context import Settings

PLAIN = "model.network=plain"
ZEROS = "methods.qdiffusion.activations={quantizer='zeros', range='ema'}"
LEARN = "methods.qdiffusion.reconstruction={use='learn-zeros', rate=%s}"


def made(cache, *overrides, bits="W4A8"):
    ctx = context(cache, experiment(PLAIN, *overrides, f'sweep.bits=["{bits}"]', methods=("qdiffusion",)))
    return ctx, cell_of(ctx, "qdiffusion", bits)


def zero_points(q):
    return {key: value for key, value in q.export().items() if "|a." in key and key.endswith("zero_point")}


@pytest.mark.parametrize(("bits", "phases"), [("W4A8", ["rounding", "zeros"]), ("W4A32", ["rounding"]), ("W32A8", ["zeros"])])
def test_a_kind_of_ones_own_is_learned_where_its_site_is_quantized(cache, bits, phases):
    ctx, cell = made(cache, ZEROS, LEARN % 1.0, bits=bits)
    assert [phase.name for phase in phases_with_work(cell.method.reconstruction.create(), cell.method)] == phases
    q, quantizer = quantized(ctx, cell)
    assert list(quantizer.fitted) == phases
    assert quantizer.gradient_steps == 3 * 5 * len(phases)
    assert not [name for name, _ in q.module.named_parameters() if name.endswith("zero_point")]


def test_zero_points_move_from_where_their_ranges_put_them(cache):
    q, still = (quantized(*made(cache, ZEROS, LEARN % rate))[0] for rate in (1.0, 0.0))
    learned, found = zero_points(q), zero_points(still)
    moved = {key for key in learned if not torch.equal(learned[key], found[key])}
    assert len(moved) > len(learned) / 2
    assert not [key for key in moved if "softmax" in key]
    rest = q.export().keys() - learned.keys()
    assert all(torch.equal(q.export()[key], still.export()[key]) for key in rest)


def test_a_phase_without_takers_has_no_work(tmp_path):
    _, cell = made(tmp_path, ZEROS, LEARN % 1.0)
    assert not has_work(Phase("steps", frozenset({"step"}), True, "quantized"), cell.method)
    assert has_work(Phase("joint", frozenset({"step", "zero-point"}), True, "quantized"), cell.method)


def test_a_quantizer_whose_kind_no_phase_learns_fails_the_cell(tmp_path):
    record = run_cell(*made(tmp_path, ZEROS))
    assert record.status == "failed"
    assert "the quantizer 'zeros' learns 'zero-point', and no phase of 'brecq' does" in record.reason


def test_it_fails_before_full_precision_is_computed(tmp_path):
    ctx, cell = made(tmp_path, ZEROS)
    done = []

    def report(task, what, part):
        if part >= 1.0 and what in ("", FAILED):
            done.append((task.kind, task.label, what))

    record = run_experiment(ctx.experiment, Settings(tmp_path, "cpu", 1, 1), report, lambda _: None)
    assert done[0] == ("cell", cell.id, FAILED)
    assert [one for one in done if one[2] == FAILED] == done[:1]
    assert [(cell.id, cell.status) for cell in record.cells] == [("full-precision", "ok"), (cell.id, "failed")]


def test_an_error_where_phases_are_chosen_costs_its_cell_and_not_the_run(tmp_path, monkeypatch):
    ctx, cell = made(tmp_path, ZEROS, LEARN % 1.0)
    monkeypatch.setattr(cell.method.activations.quantizer.component.load(), "offers", classmethod(lambda cls, o: 1 / 0))
    record = run_experiment(ctx.experiment, Settings(tmp_path, "cpu", 1, 1), lambda *_: None, lambda _: None)
    assert [one.status for one in record.cells] == ["ok", "failed"]
    assert "ZeroDivisionError" in record.cells[1].reason


def test_trainables_that_are_not_offered_fail_the_cell(tmp_path, monkeypatch):
    ctx, cell = made(tmp_path, ZEROS, LEARN % 1.0)
    monkeypatch.setattr(cell.method.activations.quantizer.component.load(), "offers", classmethod(lambda cls, o: frozenset()))
    record = run_cell(ctx, cell)
    assert record.status == "failed"
    assert 'the activation quantizer "zeros" of plugin' in record.reason
    assert "has trainables that it does not offer: zero-point" in record.reason


QUANTIZERS = [r for r in PluginManager(block="").components() if r.role in ("weight-quantizer", "activation-quantizer")]


@pytest.mark.parametrize("record", QUANTIZERS, ids=[record.name for record in QUANTIZERS])
def test_shipped_quantizers_offer_what_they_have(record):
    options, kind = record.component.options(), record.component.load()
    quantizer = kind(options, spec=QuantSpec(4, steps=3), layout=Layout(), estimator=lambda: None)
    assert {group.kind for group in quantizer.learnable()} == kind.offers(options)
    assert bool(kind.offers(options)) == ("learned" in record.component.traits)
