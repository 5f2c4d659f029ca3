"""What is recorded of a unit's fit: losses before, soft and hardened, undecided roundings, what its weighter learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, run_cell

from ptqbench.fitting import units
from ptqbench.fitting.quality import OPEN, SAMPLES, Examination, _spread, weighting
from ptqbench.measuring.state_hash import state_hash
from ptqbench.quant.layer import QuantLayer
from ptqbench.results.fits import FitQuality
from ptqbench_adaround.quantizer import AdaRound
from ptqbench_adaround.rounding import rectified_sigmoid

PLAIN, ROUNDING = "model.network=plain", "sweep.bits=['W4A32']"


def undecided(layers: list[QuantLayer]) -> float:
    """The share of variables with h(alpha) in (0.05, 0.95), of weights between two levels that the grid has."""
    found = []
    for q in (part.weight for layer in layers for part in layer.partitions()):
        assert isinstance(q, AdaRound)
        h, code = rectified_sigmoid(q.alpha), q.floor + q.layout.spread(q.zero_point, q.floor, None)
        found.append((h > OPEN) & (h < 1 - OPEN) & (code >= q.spec.levels.low) & (code < q.spec.levels.high))
    return float(torch.cat([each.flatten() for each in found]).double().mean())


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[FitQuality], list[dict[str, float]]]:
    """The fits of a cell, and what was seen beside them: losses of all training samples, share of undecided variables."""
    seen: list[dict[str, float]] = []

    class Watched(Examination):
        def begin(self, problem):
            super().begin(problem)
            whole = self.places["training"]
            soft = [layer.baked for layer in self.layers]
            for layer in self.layers:
                layer.bake()
            # Before the first iteration alpha rounds to nearest.
            seen.append({"before": problem.mean_loss(whole)})
            self._bake(soft)

        def soft(self):
            super().soft()
            seen[-1] |= {"soft": self.problem.mean_loss(self.places["training"]), "undecided": undecided(list(self.layers))}

        def hard(self):
            seen[-1]["hard"] = self.problem.mean_loss(self.places["training"])
            return super().hard()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "Examination", Watched)
        # A cache of its own: what others fitted is not fitted again.
        ctx = context(tmp_path_factory.mktemp("watched"), experiment(ROUNDING, PLAIN, methods=("qdiffusion",)))
        _, quantizer = quantized(ctx, cell_of(ctx, "qdiffusion", "W4A32"))
    return quantizer.fits(), seen


def test_losses_are_those_of_weights_rounded_to_nearest_learned_and_hardened(watched) -> None:
    fits, seen = watched
    assert len(fits) == len(seen) == 5
    for fit, own in zip(fits, seen, strict=True):
        assert (fit.phase, fit.iterations) == ("rounding", 6)
        assert fit.training.before == pytest.approx(own["before"], rel=1e-3)
        assert fit.training.soft == pytest.approx(own["soft"], rel=1e-3)
        assert fit.training.hard == pytest.approx(own["hard"], rel=1e-3)
        assert len({*own.values()}) == 4
        assert fit.held_out is None and fit.weighter is None


def test_undecided_are_adarounds_variables_between_a_twentieth_and_the_rest(watched) -> None:
    for fit, own in zip(*watched, strict=True):
        assert fit.variables > 0
        assert fit.undecided == pytest.approx(own["undecided"], abs=0.002)
        assert fit.undecided > 0.5  # six iterations decide nothing


def test_a_fit_does_not_depend_on_being_looked_at(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = ("qdiffusion",)
    ctx = context(cache, experiment(PLAIN, methods=method))
    q, plain = quantized(ctx, cell_of(ctx, "qdiffusion"))
    monkeypatch.setattr(
        Examination, "_look", lambda self, stage: self.losses.__setitem__(stage, dict.fromkeys(self.places, 1.0))
    )
    other = context(tmp_path, experiment(PLAIN, methods=method))
    unseen, quantizer = quantized(other, cell_of(other, "qdiffusion"))
    assert state_hash(unseen) == state_hash(q)
    assert quantizer.budget() == plain.budget()
    assert {fit.training.hard for fit in quantizer.fits()} == {1.0}


def test_a_phase_that_learns_steps_decides_no_roundings(cache: Path) -> None:
    ctx = context(cache, experiment(PLAIN))
    _, quantizer = quantized(ctx, cell_of(ctx, "gacq"))
    by_phase = {phase: [fit for fit in quantizer.fits() if fit.phase == phase] for phase in ("rounding", "steps")}
    assert all(fit.undecided is not None for fit in by_phase["rounding"])
    assert all((fit.variables, fit.undecided) == (0, None) for fit in by_phase["steps"])
    assert all(fit.training.soft == fit.training.hard for fit in by_phase["steps"])
    # The second phase finds what the first one left; by then the units before are quantized further, and activations are.
    assert all(fit.held_out is not None and fit.held_out.hard for fit in quantizer.fits())


def test_a_record_has_the_fits_also_of_cached_phases(cache: Path) -> None:
    ctx = context(cache, experiment(PLAIN, "sampling.images=6"))
    first = run_cell(ctx, cell_of(ctx, "gacq"))
    again = context(cache, experiment(PLAIN, "sampling.images=7"))
    other = run_cell(again, cell_of(again, "gacq"))
    assert other.cost["reconstruct-rounding"].cached
    assert first.status == other.status == "ok"
    assert first.fits and other.fits == first.fits
    weighter = first.fits[0].weighter
    assert weighter is not None and weighter.updates == 2
    # Two updates of the 24 samples that three iterations draw, of 30.
    assert 0 < weighter.effective < 1 and weighter.touches == pytest.approx(2 * 24 / 30)
    assert set(weighter.terms) == {"validation", "matching", "validation_slope", "matching_slope", "cosine"}


def test_a_report_is_summed_up() -> None:
    report = {
        "weights": torch.tensor([0.0, 2.0, 2.0, 0.0]),
        "touches": torch.tensor([1, 2, 3, 6]),
        "validation": torch.tensor([4.0, 3.0, 2.0]),
        "cosine": torch.tensor([float("nan"), 1.0]),
        "step": torch.arange(4),
    }
    found = weighting(report, torch.tensor([0, 0, 1, 3]), 4)
    assert found is not None
    assert found.by_step == [1.0, 2.0, None, 0.0]
    many, other = weighting(report, torch.tensor([0, 9, 30, 39]), 40), weighting(report, torch.arange(5), 5)
    assert many is not None and other is not None and other.by_step == []
    assert dict(enumerate(many.by_step)) == dict.fromkeys(range(20)) | {0: 0.0, 4: 2.0, 15: 2.0, 19: 0.0}
    assert (found.effective, found.touches, found.updates) == (0.5, 3.0, 3)
    assert found.terms == {"validation": [4.0, 3.0, 2.0]}
    assert weighting({"bands": torch.ones(3, 4)}, torch.arange(3), 3) is None


def test_samples_are_spread_evenly_over_sampling_steps() -> None:
    # Eight steps in turn: every eighth sample would be of one step.
    step = torch.arange(8 * SAMPLES) % 8
    chosen = _spread(torch.arange(8 * SAMPLES), step)
    assert torch.bincount(step[chosen]).tolist() == [SAMPLES // 8] * 8
    assert _spread(torch.tensor([3, 5]), step).tolist() == [3, 5]
