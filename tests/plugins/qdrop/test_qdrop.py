"""The reconstruction `qdrop` on a toy model: what it learns, what it mixes, and what it reduces to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, recipe
from torch import Tensor

from ptqbench.fitting.adam import Adam
from ptqbench.fitting.fit import UnitFit
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.roles.reconstruction import Course, Phase, Rate, Reconstruction
from ptqbench.sampling.rng import stream
from ptqbench_qdrop import QDropOptions
from ptqbench_qdrop.reconstruction import QDrop

ITERATIONS, BATCH, UNITS = 6, 8, 5
BLOCK, LAST = "up", "last"
"""A residual block, whose inputs are a feature map and an embedding, and a single layer."""


def run(
    folder: Path, *overrides: str, bits: str = "W4A8", network: str = "plain", **options: float | str
) -> tuple[QuantizedDenoiser, MethodQuantizer]:
    """A quantized toy network, its units fitted by qdrop."""
    raw = recipe()
    chosen = {"use": "qdrop", "iterations": ITERATIONS, "batch": BATCH, "rounding_rate": 0.05, "step_rate": 0.001, **options}
    method = {"reconstruction": chosen, "weights": {"quantizer": "adaround"}, "activations": {"quantizer": "lsq"}}
    raw["methods"] = {"qdrop": method}
    raw["recipe"]["baseline"] = "qdrop"
    raw["sweep"]["bits"] = [bits]
    ctx = context(folder, experiment(f"model.network={network}", *overrides, raw=raw))
    return quantized(ctx, cell_of(ctx, "qdrop", bits))


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two states are the same bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class Plain(Reconstruction):
    """Both kinds of trainables on quantized inputs with all activations quantized, written out again."""

    phases = (Phase("joint", learns=frozenset({"rounding", "step"}), activations=True, inputs="quantized"),)

    def course(self, phase: Phase) -> Course:
        return Course(ITERATIONS, BATCH, {"rounding": Rate(0.05), "step": Rate(0.001, "cosine")})

    def fit(self, context: UnitFit) -> Iterator[float]:
        kinds, params = context.problem.kinds, context.problem.params
        rounding = torch.optim.Adam([params[name] for name in params if kinds[name] == "rounding"], lr=0.05, fused=True)
        steps = torch.optim.Adam([params[name] for name in params if kinds[name] == "step"], lr=0.001, fused=True)
        for i in range(ITERATIONS):
            steps.param_groups[0]["lr"] = 0.001 * (1 + math.cos(math.pi * i / ITERATIONS)) / 2
            loss = context.weighted_loss(context.problem.draw(BATCH, rng=context.rng))
            penalty = context.penalty(i / ITERATIONS)
            rounding.zero_grad()
            steps.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            rounding.step()
            steps.step()
            yield (i + 1) / ITERATIONS


def test_nothing_dropped_is_plain_joint_reconstruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = run(tmp_path / "kept", input_keep=1.0, activation_keep=1.0)
    dropped, _ = run(tmp_path / "dropped")
    monkeypatch.setattr(MethodQuantizer, "reconstruction", cached_property(lambda self: Plain(QDropOptions())))
    MethodQuantizer.reconstruction.__set_name__(MethodQuantizer, "reconstruction")
    plain, _ = run(tmp_path / "plain")
    assert equal(kept.export(), plain.export())
    assert not equal(dropped.export(), plain.export())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, UnitFit]:
    """The contexts of all units that qdrop fits from now on."""
    found: dict[str, UnitFit] = {}
    original = QDrop.fit

    def fit(self: QDrop, context: UnitFit) -> Iterator[float]:
        found[context.unit] = context
        yield from original(self, context)

    monkeypatch.setattr(QDrop, "fit", fit)
    return found


@pytest.mark.parametrize("keep", [0.0, 0.25, 0.5, 1.0])
def test_inputs_are_mixed_element_by_element(tmp_path: Path, seen: dict[str, UnitFit], keep: float) -> None:
    run(tmp_path, input_keep=keep)
    problem = seen[BLOCK].problem
    samples = problem.data.train
    (features, embedding), _ = problem.data.inputs.take(samples, problem.device)
    (full, full_embedding), _ = problem.data.full_inputs.take(samples, problem.device)
    mixed, vector = problem.batch(samples, torch.arange(len(samples)), seed=5).args
    apart = features != full
    chosen = mixed == features
    assert int(apart.sum()) > 10_000
    assert bool((chosen | (mixed == full)).all())
    share = float(chosen[apart].double().mean())
    assert abs(share - keep) <= 4 * math.sqrt(keep * (1 - keep) / int(apart.sum()))
    assert vector.dim() == 2
    assert torch.equal(vector, embedding)
    assert torch.equal(embedding, full_embedding)


def test_masks_are_a_function_of_the_batch(tmp_path: Path, seen: dict[str, UnitFit]) -> None:
    run(tmp_path, input_keep=0.5, activation_keep=0.5)
    problem = seen[BLOCK].problem
    draws = [problem.draw(BATCH, rng=stream(seed, "b")) for seed in (0, 0, 1)]
    first, again, other = (problem.losses(batch) for batch in draws)
    assert torch.equal(first, again)
    assert torch.equal(problem.losses(draws[0]), first)
    assert not torch.equal(first, other)
    places = torch.arange(BATCH)
    one, two = (problem.losses(problem.batch(problem.data.train[:BATCH], places, seed)) for seed in (1, 2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_activations_inside_the_unit_are_dropped_while_it_is_fitted_only(
    tmp_path: Path, seen: dict[str, UnitFit], keep: float
) -> None:
    q, cell = run(tmp_path, input_keep=1.0, activation_keep=keep)
    problem = seen[LAST].problem
    batch = problem.draw(BATCH, rng=stream(0, "b"))
    given, kept = batch.args[0], []
    layer = q.layers[LAST]
    handle = problem.module.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    rounded = layer.partitions()[0].activation(given)
    used: list[Tensor] = []
    layer._apply_to = lambda x, weight: used.append(x) or type(layer)._apply_to(layer, x, weight)
    problem.losses(batch)
    handle.remove()
    assert torch.equal(kept[0], given)
    apart = rounded != given
    share = float((used[0] == rounded)[apart].double().mean())
    assert abs(share - keep) <= 4 * math.sqrt(keep * (1 - keep) / int(apart.sum()))
    assert bool(((used[0] == rounded) | (used[0] == given)).all())
    cell.samples.predict(q, torch.arange(4))
    assert torch.equal(used[-1], layer.partitions()[0].activation(used[-1]))
    assert q.context.keep == 1


def test_both_kinds_learn_and_everything_is_hard_in_the_end(tmp_path: Path) -> None:
    start, _ = run(tmp_path / "start", iterations=1, rounding_rate=1e-9, step_rate=1e-12)
    q, _ = run(tmp_path / "learned", iterations=12, rounding_rate=0.3, step_rate=0.01)
    before, after = start.export(), q.export()
    assert any(not torch.equal(before[key], after[key]) for key in after if key.endswith("codes"))
    assert any(not torch.equal(before[key], after[key]) for key in after if "|a." in key and key.endswith("scale"))
    for layer in q.layers.values():
        for part in layer.partitions():
            assert part.weight.alpha is None
            assert not part.weight.learning and not part.activation.learning
            assert bool((part.activation.scale > 0).all())
            weight, codes = layer.weight[:, part.start : part.stop], part.weight.learned.float()
            tables = part.weight.scale, part.weight.zero_point
            scale, zero = (part.weight.layout.spread(table, weight, None) for table in tables)
            inside = (codes > 0) & (codes < part.weight.spec.levels.high)
            assert float((codes - zero - weight / scale)[inside].abs().max()) < 1 + 1e-4


@pytest.mark.parametrize(("bits", "learned"), [("W4A32", "rounding"), ("W32A8", "step")])
def test_one_kind_learns_alone(tmp_path: Path, seen: dict[str, UnitFit], bits: str, learned: str) -> None:
    q, cell = run(tmp_path, bits=bits)
    assert len(seen) == UNITS
    assert {kind for context in seen.values() for kind in context.problem.kinds.values()} == {learned}
    assert cell.gradient_steps == UNITS * ITERATIONS
    assert {key.split("|")[1][0] for key in q.export()} == {"w" if learned == "rounding" else "a"}


@pytest.mark.parametrize("decay", ["none", "cosine"])
def test_learning_rates_follow_torchs_cosine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decay: str) -> None:
    plain = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(plain, ITERATIONS)
    expected = []
    for _ in range(ITERATIONS):
        expected.append(plain.param_groups[0]["lr"])
        plain.step()
        schedule.step()
    rates: list[float] = []
    step = Adam.step

    def noting(self: Adam, slopes: Sequence[Tensor | None], rate: float) -> None:
        rates.append(rate)
        step(self, slopes, rate)

    monkeypatch.setattr(Adam, "step", noting)
    run(tmp_path, rounding_decay=decay)
    found = torch.tensor(rates, dtype=torch.float64).reshape(-1, ITERATIONS, 2)
    assert len(found) == UNITS
    shape = torch.tensor(expected, dtype=torch.float64)
    for unit in found:
        torch.testing.assert_close(unit[:, 0], 0.05 * (shape if decay == "cosine" else torch.ones_like(shape)))
        torch.testing.assert_close(unit[:, 1], 0.001 * shape)
