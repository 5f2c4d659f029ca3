"""A whole cell: every method of the main recipe on the toy model, what cells share, and how they fail."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from enginekit import cell_of, context, experiment, files, quantized, run_cell, values

from ptqbench.errors import PluginError
from ptqbench.fitting.method import make_plan
from ptqbench.measuring.accounting import bit_ledger
from ptqbench.measuring.measure import Measurement
from ptqbench.quant.plan import SITES
from ptqbench.roles.features import FeatureExtractor
from ptqbench.running.cell import cell_key, cell_quantizer

METHODS = ("nearest", "qdiffusion", "ptq4dm", "gacq")


@pytest.fixture(scope="module")
def records(ctx):
    """All cells of the comparison."""
    return {(cell.name, cell.bits): run_cell(ctx, cell) for cell in ctx.experiment.cells}


@pytest.mark.parametrize("bits", ["W4A32", "W4A8"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_numbers_with_intervals(records, name, bits):
    record = records[name, bits]
    assert (record.status, record.reason) == ("ok", "")
    assert list(record.metrics) == ["eps-error", "psnr@fp", "fd-toy@data", "fd-toy@fp"]
    for value, low, high, n in values(record).values():
        assert low <= value <= high
        assert n in (4, 8)
    assert record.metrics["eps-error"].value > 0
    assert record.weight_bytes < record.full_precision_bytes / 3
    assert set(record.cost) >= {"images", "noise-error", "weight-ranges"}


def test_full_precision_has_only_what_needs_no_reference(records):
    record = records["full-precision", "W32A32"]
    assert list(record.metrics) == ["fd-toy@data"]
    assert record.weight_bytes == record.full_precision_bytes
    assert record.ledger == []


def test_budgets_are_equal_and_count_every_optimiser_step(records):
    for bits, phases in (("W4A32", 1), ("W4A8", 2)):
        plain, gacq = records["qdiffusion", bits].budget, records["gacq", bits].budget
        assert (plain.training, plain.validation, gacq.training, gacq.validation) == (40, 0, 30, 10)
        assert plain.by_stage["trajectories"] == gacq.by_stage["trajectories"] == 40
        # A validation split takes nothing but samples of the range pass away.
        assert plain.denoiser_evaluations - gacq.denoiser_evaluations == (10 if bits == "W4A8" else 0)
        assert plain.gradient_steps == gacq.gradient_steps
        rounding = records["qdiffusion", "W4A32"].budget.gradient_steps
        assert plain.gradient_steps == rounding * (1 + (phases - 1) / 2)
    assert records["nearest", "W4A32"].budget.training == 0
    assert records["nearest", "W4A8"].budget.training == 40


def test_both_activation_settings_share_the_rounding_phase(ctx, records):
    assert set(records)
    results = set()
    for name in ("qdiffusion", "ptq4dm", "gacq"):
        for bits in ("W4A32", "W4A8"):
            costs = quantized(ctx, cell_of(ctx, name, bits))[1].costs
            assert costs.stages["reconstruct-rounding"].cached
            results |= {result for result in costs.tally if result.startswith("reconstruct-rounding/")}
    # Not the number of folders: other tests keep results in the same cache.
    assert len(results) == 3


def test_first_and_last_layer_keep_eight_bits(ctx, records):
    ledger = [row for row in records["qdiffusion", "W4A8"].ledger if "site" not in row]
    wide = [row["name"] for row in ledger if row["weight"]["bits"] == 8]
    assert wide == ["first", "last"]
    assert all("first-last-8bit" in row["why"][0] for row in ledger if row["name"] in wide)
    split = [row for row in ledger if "skip-split" in row["why"]]
    assert split
    assert all(len(row["partitions"]) == 2 for row in split)
    assert len(ledger) == len(ctx.probe.layers)


@pytest.mark.parametrize(("name", "bits"), [("qdiffusion", "W4A8"), ("qdiffusion", "W4A32"), ("nearest", "W4A8")])
def test_bytes_equal_a_count_value_by_value(ctx, name, bits):
    q, _ = quantized(ctx, cell_of(ctx, name, bits))
    total = 32 * sum(p.numel() for p in ctx.model.denoiser.parameters())
    for layer, inner in ((layer, layer.inner) for layer in q.layers.values()):
        total -= 32 * inner.weight.numel()
        for channels in layer.plan.partitions or (inner.weight.shape[1],):
            count = inner.weight[:, :channels].numel()
            rows = inner.weight.shape[0]
            total += _padded(layer.plan.weight.bits * count) + 32 * rows + _padded(layer.plan.weight.bits * rows)
            if layer.plan.activation is not None:
                total += 32 + _padded(layer.plan.activation.bits)
    grids = [attention.spec(site) for attention in q.plan.attentions for site in SITES]
    total += sum(32 + _padded(grid.bits) for grid in grids if grid is not None)
    ledger = bit_ledger(ctx.model.denoiser, ctx.probe, q.plan, q)
    assert ledger.bytes * 8 == total
    assert ledger.bytes == ledger.other_bytes + sum(r["weight_bytes"] + r["activation_bytes"] for r in ledger.rows)


def test_changing_the_bits_of_one_layer_changes_the_ledgers_hash(ctx):
    q, _ = quantized(ctx, cell_of(ctx, "nearest", "W4A8"))
    before = bit_ledger(ctx.model.denoiser, ctx.probe, q.plan, q)
    first = q.plan.layers[0]
    changed = q.plan.with_layers([first.change("a test", weight=dataclasses.replace(first.weight, bits=5))])
    after = bit_ledger(ctx.model.denoiser, ctx.probe, changed, q)
    assert before.hash == bit_ledger(ctx.model.denoiser, ctx.probe, q.plan, q).hash
    assert before.hash != after.hash


def test_averages_and_bit_operations_of_the_ledger(ctx):
    q, _ = quantized(ctx, cell_of(ctx, "nearest", "W4A8"))
    summary = bit_ledger(ctx.model.denoiser, ctx.probe, q.plan, q).summary
    assert (summary["average weight bits"], summary["average activation bits"]) == (4, 8)
    products = sum(attention.score_macs + attention.value_macs for attention in ctx.probe.attentions)
    assert summary["bops"] == 32 * sum(layer.macs for layer in ctx.probe.layers) + 64 * products


def test_a_layer_that_nobody_quantized_fails_the_cell_unless_the_plan_says_why(ctx, monkeypatch):
    def without(why):
        def apply(self, plan, probe):
            return plan.with_layers([dataclasses.replace(plan.layers[2], weight=None, why=why)])

        return apply

    ends = cell_of(ctx, "qdiffusion").method.passes[0].component.load()
    monkeypatch.setattr(ends, "apply", without(()))
    with pytest.raises(PluginError, match="without saying why"):
        make_plan(ctx.probe, cell_of(ctx, "qdiffusion").method)
    monkeypatch.setattr(ends, "apply", without(("the paper keeps it",)))
    assert make_plan(ctx.probe, cell_of(ctx, "qdiffusion").method).layers[2].weight is None


def _padded(bits: int) -> int:
    return 8 * math.ceil(bits / 8)


def test_a_restored_state_equals_the_fresh_one_bit_for_bit(tmp_path):
    ctx = context(tmp_path, experiment("model.network=plain"))
    cell = cell_of(ctx, "qdiffusion")
    (fresh, first), (restored, second) = quantized(ctx, cell), quantized(ctx, cell)
    assert not any(cost.cached for cost in first.costs.stages.values())
    assert all(cost.cached for cost in second.costs.stages.values())
    states = fresh.export(), restored.export()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    index = torch.arange(40)
    outputs = [first.samples.predict(q, index) for q in (fresh, restored)]
    assert torch.equal(*outputs)


def test_weights_are_on_the_grid_and_rounding_was_learned(ctx):
    q, _ = quantized(ctx, cell_of(ctx, "qdiffusion"))
    moved = 0
    for layer in q.layers.values():
        state = layer.export()
        for i, part in enumerate(layer.partitions()):
            codes, scale, zero = (state[f"w.{i}.{key}"] for key in ("codes", "scale", "zero_point"))
            assert 0 <= int(codes.min()) <= int(codes.max()) <= 2**part.weight.spec.bits - 1
            shape = [-1] + [1] * (codes.dim() - 1)
            scale, zero = scale.reshape(shape), zero.reshape(shape)
            assert torch.equal(layer.baked[:, part.start : part.stop], (codes - zero) * scale)
            steps = layer.weight[:, part.start : part.stop] / scale + zero
            nearest = steps.round().clamp(0, 2**part.weight.spec.bits - 1)
            assert float((codes - steps.clamp(0, 2**part.weight.spec.bits - 1)).abs().max()) <= 1
            moved += int((codes != nearest).sum())
    assert moved > 50


def test_a_cell_is_read_back_under_the_name_that_asks(ctx, records):
    cell = cell_of(ctx, "qdiffusion")
    again = run_cell(ctx, cell)
    assert values(again) == values(records["qdiffusion", "W4A8"])
    assert all(cost.cached for cost in again.cost.values())
    renamed = experiment('sweep.bits=["W4A8"]', "recipe.baseline=nearest")
    assert cell_key(ctx, cell) == cell_key(context(ctx.cache.root, renamed), cell_of(ctx, "qdiffusion"))


def test_other_features_give_another_key(tmp_path, monkeypatch):
    """The weights of the extractor are no part of its plugin's source."""
    ctx = context(tmp_path)
    cell = cell_of(ctx, "nearest")
    before = cell_key(ctx, cell)
    extractor: type[FeatureExtractor] = ctx.experiment.evaluation.features.component.load()
    monkeypatch.setattr(extractor, "fingerprint", lambda self: "retrained")
    assert cell_key(context(tmp_path), cell) != before


def test_partitions_count_in_the_key_of_activation_ranges(tmp_path):
    """At W32 the weights' stage says nothing about partitions."""
    bits = 'sweep.bits=["W32A8"]'
    for passes in ("[]", '["skip-split"]'):
        ctx = context(tmp_path, experiment(bits, f"methods.nearest.passes={passes}", methods=("nearest",)))
        q, _ = quantized(ctx, cell_of(ctx, "nearest", "W32A8"))
        expected = {f"a.{i}.scale" for i in range(2 if passes != "[]" else 1)}
        assert {key for key in q.layers["up.shortcut"].export() if "scale" in key} == expected


def test_weights_in_full_precision_leave_only_the_step_sizes_to_learn(tmp_path):
    made = experiment('sweep.bits=["W32A8"]', "model.network=plain", methods=("qdiffusion",))
    record = run_cell(context(tmp_path, made), cell_of(context(tmp_path, made), "qdiffusion", "W32A8"))
    assert (record.status, record.reason) == ("ok", "")
    assert "reconstruct-steps" in record.cost
    assert "reconstruct-rounding" not in record.cost


FAILURES = {
    "a bug in a plugin": ("methods.qdiffusion.weighter=broken", "ZeroDivisionError"),
    "weighter gives up": ("methods.qdiffusion.weighter=refusing", "the toy weighter refuses\n  ask another"),
    "pass changes nothing": ("methods.qdiffusion.partitioner={use='blocks', blocks=['No']}", "executes no block"),
    "group without samples": ("calibration.samples=2", "too few to hold out"),
}


@pytest.mark.parametrize(("override", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_cell_that_cannot_be_done_is_a_row_that_says_why(cache, override, reason):
    name = "gacq" if "samples" in override else "qdiffusion"
    ctx = context(cache, experiment(override, "methods.qdiffusion.sampler=random"))
    record = run_cell(ctx, cell_of(ctx, name))
    assert record.status == "failed"
    assert reason in record.reason
    assert record.metrics == {}
    assert run_cell(ctx, cell_of(ctx, "nearest")).status == "ok"


def test_ranges_that_are_not_learned_leave_the_second_phase_out(tmp_path):
    made = experiment("methods.qdiffusion.activations={quantizer='affine'}", "model.network=plain", methods=("qdiffusion",))
    record = run_cell(context(tmp_path, made), cell_of(context(tmp_path, made), "qdiffusion", "W4A8"))
    assert (record.status, record.reason) == ("ok", "")
    assert "reconstruct-steps" not in record.cost


def test_a_failed_cell_is_tried_again(tmp_path, monkeypatch):
    ctx = context(tmp_path, experiment("methods.qdiffusion.weighter=refusing", "model.network=plain"))
    cell = cell_of(ctx, "qdiffusion")
    assert run_cell(ctx, cell).status == "failed"
    weighter = cell.method.weighter.component.load()
    monkeypatch.setattr(weighter, "weights", lambda self, batch, problem: torch.ones(len(batch)))
    assert run_cell(ctx, cell).status == "ok"


def test_a_cell_that_was_interrupted_while_it_was_measured_keeps_what_it_had(tmp_path, monkeypatch):
    ctx = context(tmp_path)
    cell = cell_of(ctx, "nearest")
    with monkeypatch.context() as patch:
        patch.setattr(Measurement, "numbers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_cell(ctx, cell)
    before = files(tmp_path)
    assert any(name.endswith("preview.safetensors") for name in before)
    assert run_cell(ctx, cell).status == "ok"
    after = files(tmp_path)
    assert all(after[name] == time for name, time in before.items() if not name.endswith("cost.json"))


def interrupted(*_):
    raise KeyboardInterrupt


def test_images_that_are_not_finite_fail_the_cell(tmp_path, monkeypatch):
    ctx = context(tmp_path, experiment("model.network=plain"))
    ctx.model.call = lambda net, x, t, cond: net(x, t) / 0
    record = run_cell(ctx, ctx.experiment.cells[0])
    assert (record.status, record.reason.splitlines()[0]) == ("failed", "generated images are not finite")


def test_the_full_precision_cell_has_nothing_to_quantize(ctx):
    with pytest.raises(ValueError, match="nothing to quantize"):
        cell_quantizer(ctx, ctx.experiment.cells[0], None, None)
