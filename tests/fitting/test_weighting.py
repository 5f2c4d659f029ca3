"""What weighters see and change in a whole cell, and that a reconstruction continues where it was interrupted."""

from __future__ import annotations

import pytest
import torch
from enginekit import cell_of, context, experiment, files, quantized
from safetensors.torch import load_file

from ptqbench.fitting import quantize
from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.unit_data import Samples

PLAIN = "model.network=plain"


def same_state(a, b):
    first, second = a.export(), b.export()
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


def method_with(cache, weighter, *overrides):
    ctx = context(cache, experiment(f"methods.qdiffusion.weighter={weighter}", PLAIN, *overrides))
    return ctx, cell_of(ctx, "qdiffusion")


# A rate that is lost in rounding goes the whole way of learning, and changes nothing all the same.
@pytest.mark.parametrize("rate", [0.0, 1e-30])
def test_gacq_whose_scores_cannot_move_equals_weights_of_one_bit_for_bit(cache, rate):
    gacq = f"{{use='gacq', validation=0.25, groups=2, score_rate={rate}, every=3}}"
    states = [quantized(*method_with(cache, weighter))[0] for weighter in ("validated-ones", gacq)]
    assert same_state(*states)


def test_gacq_with_scores_that_move_gives_another_result(cache):
    moving = "{use='gacq', validation=0.25, groups=2, score_rate=0.5, every=3}"
    assert not same_state(*(quantized(*method_with(cache, w))[0] for w in ("validated-ones", moving)))


def test_gacq_reports_weights_and_both_terms_for_every_unit(tmp_path):
    ctx = context(tmp_path, experiment(PLAIN))
    _, quantizer = quantized(ctx, cell_of(ctx, "gacq"))
    assert (quantizer.needs.validation, quantizer.needs.groups) == (0.25, 2)
    updates = {}
    for phase, count in (("rounding", 2), ("steps", 1)):
        paths = list(tmp_path.glob(f"reconstruct-{phase}/*/weighter-*.safetensors"))
        assert len(paths) == len(list(tmp_path.glob(f"reconstruct-{phase}/*/unit-*.json"))) == 5
        updates |= dict.fromkeys(paths, count)
    for path, count in updates.items():
        report = load_file(path)
        weights = report["weights"]
        assert weights.shape == report["step"].shape == (30,)
        assert torch.isfinite(weights).all()
        assert float(weights.min()) > 0
        assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
        assert float(weights.std()) > 1e-4
        assert len(report["validation"]) == len(report["matching"]) == count
        assert torch.isfinite(report["matching"]).all()


def test_validation_samples_train_nothing(tmp_path, monkeypatch):
    ctx, cell = method_with(tmp_path, "validated-ones")
    trained, observed = set(), set()
    weighter = cell.method.weighter.component.load()

    def note(self, batch, problem):
        trained.update(problem.data.train[batch.index].tolist())
        return torch.ones(len(batch))

    def watched(calibration, split, predict, *rest):
        def watch(q, index):
            if q is not None and next(iter(q.layers.values())).observe_activations:
                observed.update(index.tolist())
            return predict(q, index)

        return Samples(calibration, split, watch, *rest)

    monkeypatch.setattr(weighter, "weights", note)
    monkeypatch.setattr(quantize, "Samples", watched)
    _, quantizer = quantized(ctx, cell)
    held = set(quantizer.samples.split.validation.tolist())
    assert len(held) == 10
    assert observed == set(range(40)) - held
    assert trained
    assert not trained & held


def test_the_weighter_s_name_does_not_change_the_mini_batches(cache):
    """Weights of one by another name: the streams of sampling, splitting and batches have names of their own."""
    assert same_state(*(quantized(*method_with(cache, w))[0] for w in ("uniform", "ones")))


def test_an_interrupted_reconstruction_continues_with_the_next_unit(tmp_path, monkeypatch):
    ctx, cell = method_with(tmp_path / "whole", "ones")
    weighter = cell.method.weighter.component.load()
    begun: list[str] = []

    def begin(self, unit, phase, problem, rng):
        begun.append(f"{phase}/{unit}")
        self.seen = getattr(self, "seen", 0) + 1

    def weights(self, batch, problem):
        """Would depend on the units before if one instance served them all."""
        if begun[-1] == stop:
            begun.clear()
            raise KeyboardInterrupt
        return 1.0 + (torch.arange(len(batch)) % 2) * self.seen

    monkeypatch.setattr(weighter, "begin_unit", begin)
    monkeypatch.setattr(weighter, "weights", weights)
    stop = "never"
    whole, _ = quantized(ctx, cell)
    order = list(begun)
    units = ("first", "down", "attention", "up", "last")
    assert order == [f"{phase}/{unit}" for phase in ("rounding", "steps") for unit in units]
    ctx, cell = method_with(tmp_path / "parts", "ones")
    for i in (2, len(order) - 2):
        begun.clear()
        stop = order[i]
        with pytest.raises(KeyboardInterrupt):
            quantized(ctx, cell)
    kept = files(tmp_path / "parts")
    begun.clear()
    stop = "never"
    resumed, _ = quantized(ctx, cell)
    assert begun == order[-2:]
    assert same_state(whole, resumed)
    now = files(tmp_path / "parts")
    assert {name for name in kept if now[name] != kept[name]} <= {n for n in kept if n.endswith("cost.json")}


def test_the_network_is_in_evaluation_mode_whenever_a_unit_is_fitted(tmp_path, monkeypatch):
    """Dropout must stay off: it would be noise that no published reading asks for."""
    modes = set()
    losses = UnitProblem.loss_parts

    def note(self, batch, params=None):
        modes.update(module.training for both in (self.modules.quantized, self.modules.original) for module in both.modules())
        return losses(self, batch, params)

    monkeypatch.setattr(UnitProblem, "loss_parts", note)
    quantized(*method_with(tmp_path, "uniform"))
    assert modes == {False}
