"""The two-phase reconstruction against the same loop written out again, and the learning rates that weighters see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, recipe
from torch import Tensor

from ptqbench.fitting.fit import UnitFit
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.roles.reconstruction import Course, Phase, Rate, Reconstruction
from ptqbench.roles.weighter import Batch
from ptqbench_brecq import BrecqOptions

ITERATIONS, STEP_ITERATIONS, BATCH, UNITS = 6, 5, 8, 5
ROUNDING_RATE, STEP_RATE = 0.05, 0.01

State = dict[str, Tensor]
Seen = list[tuple[str, str, State, dict[str, float]]]
"""At each iteration: phase, unit, the trainables before the optimiser's step, and the learning rates that weighters see."""


class Written(Reconstruction):
    """Weights on quantized inputs with squared error; then step sizes on full-precision inputs with exponent 2.4."""

    phases = (
        Phase("rounding", learns=frozenset({"rounding"}), activations=False, inputs="quantized"),
        Phase("steps", learns=frozenset({"step"}), activations=True, inputs="full-precision"),
    )

    def course(self, phase: Phase) -> Course:
        if phase.name == "rounding":
            return Course(ITERATIONS, BATCH, {"rounding": Rate(ROUNDING_RATE)})
        return Course(STEP_ITERATIONS, BATCH, {"step": Rate(STEP_RATE, "cosine")}, power=2.4)

    def fit(self, context: UnitFit) -> Iterator[float]:
        yield from self._weights(context) if context.phase.name == "rounding" else self._steps(context)

    def _weights(self, context: UnitFit) -> Iterator[float]:
        adam = torch.optim.Adam(context.problem.params.values(), lr=ROUNDING_RATE, fused=True)
        for i in range(ITERATIONS):
            loss = context.weighted_loss(context.problem.draw(BATCH, rng=context.rng))
            penalty = context.penalty(i / ITERATIONS)
            # The regulariser is silent during the warm-up, a fifth of the iterations.
            assert (penalty is None) == (i < 0.2 * ITERATIONS)
            total = loss if penalty is None else loss + penalty
            adam.zero_grad()
            total.backward()
            adam.step()
            yield (i + 1) / ITERATIONS

    def _steps(self, context: UnitFit) -> Iterator[float]:
        adam = torch.optim.Adam(context.problem.params.values(), lr=STEP_RATE, fused=True)
        for i in range(STEP_ITERATIONS):
            adam.param_groups[0]["lr"] = STEP_RATE * (1 + math.cos(math.pi * i / STEP_ITERATIONS)) / 2
            context.at(i / STEP_ITERATIONS)
            loss = context.weighted_loss(context.problem.draw(BATCH, rng=context.rng))
            assert context.penalty(i / STEP_ITERATIONS) is None
            adam.zero_grad()
            loss.backward()
            adam.step()
            yield (i + 1) / STEP_ITERATIONS


def run(folder: Path, *overrides: str, reconstruction: str = "brecq") -> QuantizedDenoiser:
    """A quantized toy network, its units fitted with unequal weights of samples."""
    raw = recipe()
    chosen = {
        "use": reconstruction,
        "iterations": ITERATIONS,
        "rounding_rate": ROUNDING_RATE,
        "step_iterations": STEP_ITERATIONS,
        "step_rate": STEP_RATE,
        "batch": BATCH,
    }
    method = {
        "reconstruction": chosen,
        "weighter": {"use": "late", "factor": 3.0, "threshold": 500},
        "weights": {"quantizer": "adaround"},
        "activations": {"quantizer": "lsq"},
    }
    raw["methods"] = {"mine": method}
    raw["recipe"]["baseline"] = "mine"
    ctx = context(folder, experiment("model.network=plain", *overrides, raw=raw))
    return quantized(ctx, cell_of(ctx, "mine"))[0]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What every iteration from now on starts from."""
    found: Seen = []
    original = UnitFit.weighted_loss

    def weighted_loss(self: UnitFit, batch: Batch) -> Tensor:
        params = {name: p.detach().clone() for name, p in self.problem.params.items()}
        found.append((self.phase.name, self.unit, params, dict(self.problem.learning_rate)))
        return original(self, batch)

    monkeypatch.setattr(UnitFit, "weighted_loss", weighted_loss)
    return found


@pytest.mark.parametrize("reconstruction", ["brecq", "layerwise"])
def test_both_phases_equal_the_written_out_loop(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, reconstruction: str
) -> None:
    """Bit for bit at every iteration while rounding is learned; a cosine's last bits may differ while step sizes are."""
    state = run(tmp_path / "ours", reconstruction=reconstruction).export()
    ours = list(seen)
    seen.clear()
    monkeypatch.setattr(MethodQuantizer, "reconstruction", cached_property(lambda self: Written(BrecqOptions())))
    MethodQuantizer.reconstruction.__set_name__(MethodQuantizer, "reconstruction")
    expected = run(tmp_path / "written", reconstruction=reconstruction).export()
    assert [entry[:2] for entry in ours] == [entry[:2] for entry in seen]
    assert reconstruction != "brecq" or len(ours) == UNITS * (ITERATIONS + STEP_ITERATIONS)
    for (phase, _, found, _), (_, _, wanted, _) in zip(ours, seen, strict=True):
        tolerance = 0 if phase == "rounding" else 1e-6
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=0)
    torch.testing.assert_close(state, expected, rtol=1e-6, atol=0)


def test_weighters_see_the_rate_of_each_iteration(tmp_path: Path, seen: Seen) -> None:
    run(tmp_path)
    cosine = [STEP_RATE * (1 + math.cos(math.pi * i / STEP_ITERATIONS)) / 2 for i in range(STEP_ITERATIONS)]
    for phase, rates in (("rounding", [ROUNDING_RATE] * ITERATIONS), ("steps", cosine)):
        told = [entry[3] for entry in seen if entry[0] == phase]
        assert len(told) == UNITS * len(rates)
        for i, by_name in enumerate(told):
            assert by_name
            assert list(by_name.values()) == pytest.approx([rates[i % len(rates)]] * len(by_name), rel=1e-12)
