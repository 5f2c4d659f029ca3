"""The unit as a value: per-sample losses, draws, trainables, derivatives."""

from __future__ import annotations

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, unit_problem
from torch import nn
from torch.func import jvp

from ptqbench.fitting.inner import UnitModules, UnitProblem, trainables
from ptqbench.fitting.losses import UnitLoss, per_sample_loss
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.fitting.unit_data import UnitData
from ptqbench.plugin.component import NoOptions
from ptqbench.roles.loss import LossTerm
from ptqbench.sampling.capture import Recording, record
from ptqbench.sampling.rng import stream

CPU = torch.device("cpu")
ROUNDING, STEP = frozenset({"rounding"}), frozenset({"step"})
BLOCK = "attention"


@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (3, 6, 4), (3, 7)])
@pytest.mark.parametrize("power", [2.0, 2.4, 1.0])
def test_loss_is_summed_over_channels_and_averaged_over_positions(shape, power):
    g = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, *shape, generator=g, dtype=torch.float64)
    expected = []
    for i in range(3):
        difference = (p[i] - q[i]).abs() ** power
        expected.append(difference.sum() / (difference[0].numel() if difference.dim() > 1 else 1))
    torch.testing.assert_close(per_sample_loss(p, q, power), torch.stack(expected))


@pytest.fixture(scope="module")
def problem(cache):
    """An attention block whose rounding variables and step sizes are learning, with its data."""
    ctx = context(cache, experiment("methods.qdiffusion.weighter=validated-ones"))
    q, cell = quantized(ctx, cell_of(ctx, "qdiffusion"))
    return _problem(ctx, q, cell)


def _problem(ctx, q, cell: MethodQuantizer) -> UnitProblem:
    module = q.module.get_submodule(BLOCK)
    for name, layer in q.layers.items():
        if name.startswith(BLOCK):
            layer.begin_learning(ROUNDING | STEP)
    calib = cell.samples.calibration

    def run(piece):
        return cell.samples.predict(None, torch.arange(piece.start, piece.stop))

    original = {BLOCK: ctx.model.denoiser.get_submodule(BLOCK)}
    inputs, targets = record(run, original, {}, total=len(calib), batch=16, inputs=True, outputs=True)[BLOCK]
    s = cell.samples.split
    data = UnitData(inputs, targets, calib.step, s.train, s.validation, s.group)
    return unit_problem(module, trainables(module, ROUNDING | STEP), data, q.context)


def test_trainables_are_found_by_name_and_kind(problem):
    kinds = problem.kinds
    assert {name.rpartition(".")[2] for name, kind in kinds.items() if kind == "rounding"} == {"alpha"}
    assert {name.rpartition(".")[2] for name, kind in kinds.items() if kind == "step"} == {"log_step"}
    assert {name.partition(".")[0] for name in kinds} == {"qkv", "out"}
    assert set(problem.params) == set(kinds)
    assert all(p.requires_grad for p in problem.params.values())
    assert set(trainables(problem.module, ROUNDING)) == {n for n, k in kinds.items() if k == "rounding"}
    others = [p for name, p in problem.module.named_parameters() if name not in kinds]
    assert others
    assert not any(p.requires_grad for p in others)


def test_given_parameters_and_current_ones_give_the_same_losses(problem):
    batch = problem.draw(6, rng=stream(0, "b"))
    current = problem.losses(batch)
    assert current.shape == (6,)
    assert torch.equal(problem.losses(batch, problem.params), current)
    moved = {name: p + 0.5 for name, p in problem.params.items()}
    assert not torch.equal(problem.losses(batch, moved), current)
    assert torch.equal(problem.losses(batch), current)


def test_draws_respect_split_and_group(problem):
    data = problem.data
    assert len(problem.train_steps) == 30
    everything = problem.draw(1000, rng=stream(0, "b"))
    assert torch.equal(everything.step, data.step[data.train])
    some = problem.draw(8, rng=stream(0, "b"))
    assert len(set(some.index.tolist())) == len(some) == 8
    assert torch.equal(some.step, data.step[data.train[some.index]])
    torch.testing.assert_close(some.target[0], data.targets.take(data.train[some.index], CPU)[0])
    for group in range(2):
        held = problem.draw(100, split="validation", groups=[group], rng=stream(0, "b"))
        assert len(held) == 5
        assert (data.validation_group[held.index] == group).all()
        assert torch.equal(held.step, data.step[data.validation[held.index]])


def test_draws_that_make_no_sense_are_refused(problem):
    with pytest.raises(ValueError, match="only the validation split has groups"):
        problem.draw(4, groups=[0], rng=stream(0, "b"))
    with pytest.raises(ValueError, match="no split"):
        problem.draw(4, split="test", rng=stream(0, "b"))


def test_second_derivatives_exist_through_attention(problem):
    batch = problem.draw(4, rng=stream(0, "b"))
    params = problem.params
    loss = problem.losses(batch, params).mean()
    slopes = dict(zip(params, torch.autograd.grad(loss, list(params.values()), create_graph=True), strict=True))
    norm = torch.stack([s.square().sum() for s in slopes.values()]).sum()
    second = torch.autograd.grad(norm, list(params.values()), allow_unused=True)
    rounding = [s for name, s in zip(params, second, strict=True) if problem.kinds[name] == "rounding"]
    assert all(s is not None and torch.isfinite(s).all() for s in rounding)
    assert all(s.abs().max() > 0 for s in rounding)


def test_forward_mode_agrees_with_reverse_mode(problem):
    """jvp gives <grad loss_i, v> of all samples at once."""
    batch = problem.draw(4, rng=stream(0, "b"))
    params = {name: p.detach().clone().requires_grad_() for name, p in problem.params.items()}
    g = torch.Generator().manual_seed(0)
    v = {name: torch.randn(p.shape, generator=g) for name, p in params.items()}
    plain = {name: p.detach() for name, p in params.items()}
    _, forward = jvp(lambda p: problem.losses(batch, p), (plain,), (v,))
    for i, loss in enumerate(problem.losses(batch, params)):
        slopes = torch.autograd.grad(loss, list(params.values()), retain_graph=True)
        expected = sum((s * v[name]).sum() for name, s in zip(params, slopes, strict=True))
        torch.testing.assert_close(forward[i], expected, rtol=1e-3, atol=1e-5)


def test_several_outputs_are_added():
    class Two(torch.nn.Module):
        def forward(self, x):
            return x, 2 * x

    def kept(*tensors):
        made = Recording()
        made.add(tensors if len(tensors) > 1 else (tensors, {}), range(4), 4)
        return made

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    none = torch.empty(0)
    data = UnitData(kept(x), kept(torch.zeros(4, 3), x), torch.zeros(4), torch.arange(4), none, none)
    made = unit_problem(Two(), {}, data)
    torch.testing.assert_close(made.losses(made.draw(4, rng=stream(0, "b"))), 2 * x.square().sum(1))
    assert made.mean_loss() == pytest.approx(float(2 * x.square().sum(1).mean()))


def test_settings_come_back_also_after_an_error(problem):
    problem.input_keep, problem.activation_keep, problem.context.step = 0.5, 0.25, None
    with pytest.raises(RuntimeError, match="oh"), problem.nothing_dropped():
        assert (problem.input_keep, problem.activation_keep) == (1, 1)
        problem.context.step = torch.zeros(3)
        raise RuntimeError("oh")
    assert (problem.input_keep, problem.activation_keep, problem.context.step) == (0.5, 0.25, None)


class _WritingBlock(nn.Module):
    """A pre-activation block whose activation functions work in place, on its own input among others."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        return x + self.second(self.act(self.first(self.act(x))))


class _LayersError(LossTerm):
    """What the outputs of the unit's layers come to, to be looked at."""

    reads_layers = True

    def losses(self, outcome):
        self.seen = dict(outcome.layers), dict(outcome.layer_targets)
        return {"": per_sample_loss(outcome.output[0], outcome.target[0])}


def test_units_that_write_into_their_inputs_get_copies():
    torch.manual_seed(0)
    block, x = _WritingBlock().requires_grad_(False), torch.randn(6, 4, 5, 5)
    inputs, targets = Recording(), Recording()
    inputs.add(((x.clone(),), {}), range(6), 6)
    targets.add((block(x.clone()) + 1,), range(6), 6)
    every, none = torch.arange(6), torch.arange(0)
    data = UnitData(inputs, targets, torch.zeros(6, dtype=torch.int64), every, none, none)
    term = _LayersError(NoOptions())
    layers = {name: (getattr(block, name), getattr(block, name)) for name in ("first", "second")}
    problem = unit_problem(UnitModules(block, block, layers), {}, data, loss=UnitLoss([("layers", term)]))
    batch = problem.take(torch.arange(4))
    for _ in range(2):
        assert problem.losses(batch).tolist() == pytest.approx([4] * 4)
        expected = block.first(nn.functional.silu(x[:4]))
        assert all(torch.equal(found["first"], expected) for found in term.seen)
    assert torch.equal(batch.args[0], x[:4])
