"""Full-precision stages, computed once per model and sampler and shared by all cells: trajectories, probes, images."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ptqbench.boundary.build import build
from ptqbench.errors import CellFailedError
from ptqbench.recipe.experiment import Method
from ptqbench.roles.sampler import CalibrationSampler, TrajectoryGrid
from ptqbench.sampling.calibrate import CalibrationSet, gather
from ptqbench.sampling.capture import Recorded, record, record_one
from ptqbench.sampling.rng import normal, stream
from ptqbench.sampling.sample import sample, shards
from ptqbench.stage.cache import Costs, Entry, cached_tensors, content_key
from ptqbench.stage.context import RunContext
from ptqbench.stage.prediction import noised
from ptqbench.stage.predictor import Prediction, Predictor

SAVED = ("x", "t", "step", "trajectory", "branch")
"""What of a calibration set is stored under its own name."""


def evaluate_piece(ctx: RunContext, predictor: Predictor, x: Tensor, s: int, ids: range, branch: str) -> Tensor:
    """One branch's noise prediction (n, C, H, W) at step s for states x (n, C, H, W) of calibration trajectories `ids`, in one
    batch."""
    cond = ctx.to_device(dict(ctx.model.conditions_in("calibration", ids, branch)))
    return predictor.evaluate(x.to(ctx.device), torch.full((len(ids),), s, dtype=torch.int64, device="cpu"), cond)


def evaluate_samples(ctx: RunContext, predictor: Predictor, calibration: CalibrationSet, index: Tensor) -> Tensor:
    """Noise predictions (n, C, H, W) on the calibration samples at these places (n,), each in its own branch, in one batch."""
    cond = ctx.to_device(calibration.conditions(index))
    return predictor.evaluate(calibration.x[index].to(ctx.device), calibration.step[index], cond, calibration.t[index])


@torch.no_grad()
def predict_states(ctx: RunContext, predictor: Predictor, x: Tensor, s: int, block: str) -> Prediction:
    """Predictions at step s for states x (n, C, H, W) of trajectories 0..n-1 of a block: (n, C, H, W) float32 on the CPU.

    They are made `calibration.batch` at a time.
    """
    found = []
    for ids in shards(len(x), ctx.experiment.calibration.batch):
        state = x[ids.start : ids.stop].to(ctx.device)
        step = torch.full((len(ids),), s, dtype=torch.int64, device="cpu")
        found.append(predictor(state, step, ctx.model.conditions_of(ids, ctx.device, block)))
    eps = torch.cat([piece.eps.float().cpu() for piece in found])
    branches = {name: torch.cat([piece.branches[name].float().cpu() for piece in found]) for name in ctx.model.branches}
    return Prediction(eps, branches)


def trajectory_shard(ctx: RunContext, costs: Costs, seed: int, ids: range) -> Tensor:
    """States of calibration trajectories `ids` at every step and at the end: (len(ids), S + 1, C, H, W)."""

    def make(_: Entry) -> dict[str, Tensor]:
        states: list[Tensor] = []
        final = sample(
            ctx.predictor(),
            ids,
            seed=seed,
            block="calibration",
            device=ctx.device,
            on_step=lambda s, x, _: states.append(x.cpu()),
        )
        return {"states": torch.stack([*states, final.cpu()], dim=1)}

    key = content_key(ctx.base_key, "trajectories", seed, [ids.start, ids.stop])
    return cached_tensors(ctx.cache, costs, "trajectories", key, make)["states"]


def trajectory_shards(ctx: RunContext) -> list[range]:
    """How the recipe's calibration trajectories are cut into tasks."""
    return shards(ctx.experiment.calibration.trajectories, ctx.experiment.calibration.batch)


def calibration_key(ctx: RunContext, method: Method, seed: int) -> str:
    """What names a method's calibration set. Methods with equal samplers get the very same one."""
    wanted = ctx.experiment.calibration
    # The batch decides how trajectories, and the features that samplers ask for, are computed: their last bits.
    sizes = [wanted.trajectories, wanted.samples, wanted.batch]
    return content_key(ctx.base_key, "calibration", method.sampler.key, sizes, ctx.calibrated, seed)


def calibration_set(ctx: RunContext, costs: Costs, method: Method, seed: int) -> CalibrationSet:
    """The calibration set of a method. The sampler chooses states, each of which is taken in all calibrated branches."""
    wanted, branches = ctx.experiment.calibration, ctx.calibrated
    chosen_states = wanted.samples // len(branches)

    def make(_: Entry) -> dict[str, Tensor]:
        sampler: CalibrationSampler = build(method.sampler)
        tap = partial(step_features, ctx, seed)
        grid = TrajectoryGrid(ctx.schedule.timesteps, wanted.trajectories, ctx.probe.calls, tap)
        chosen = sampler.select(grid, chosen_states, stream(seed, f"sampler/{method.sampler.name}"))
        pieces = [(ids, trajectory_shard(ctx, Costs(), seed, ids)) for ids in trajectory_shards(ctx)]

        def states(trajectory: int) -> Tensor:
            ids, tensor = next(p for p in pieces if trajectory in p[0])
            return tensor[trajectory - ids.start]

        cond = [ctx.model.conditions_in("calibration", range(wanted.trajectories), branch) for branch in branches]
        found = gather(chosen, ctx.schedule.timesteps, states, cond)
        fields = {name: getattr(found, name) for name in SAVED}
        return fields | {f"cond.{name}": value for name, value in found.cond.items()}

    saved = cached_tensors(ctx.cache, costs, "calibration", calibration_key(ctx, method, seed), make)
    cond = {name.removeprefix("cond."): value for name, value in saved.items() if name.startswith("cond.")}
    return CalibrationSet(**{name: saved[name] for name in SAVED}, cond=cond)


def step_features(ctx: RunContext, seed: int, module: str, count: int) -> Tensor:
    """The input of a full-precision submodule at every step of the first `count` calibration trajectories: (S, count, ...).

    Of a guided model, in the first of the calibrated branches. Raises `CellFailedError` if the denoiser never calls that
    module, or calls it without a tensor.
    """
    if module not in ctx.probe.calls:
        raise CellFailedError(f"the denoiser never calls a module {module!r}", "name one that it calls")
    states = calibration_states(ctx, seed, count)
    count = len(states)
    target = ctx.model.denoiser.get_submodule(module)
    predictor, found = ctx.predictor(), []
    single: dict[str, Recorded] = {}
    for s in range(ctx.schedule.steps):

        def run(ids: range, s: int = s) -> Tensor:
            return evaluate_piece(ctx, predictor, states[ids.start : ids.stop, s], s, ids, ctx.calibrated[0])

        batch = ctx.experiment.calibration.batch
        single = single or record_one(run, {module: target}, inputs=True, outputs=False)
        inputs, _ = record(run, {module: target}, single, total=count, batch=batch, inputs=True, outputs=False)[module]
        if not inputs.tensors:
            raise CellFailedError(f"the module {module!r} is called without a tensor for each sample", "name another one")
        found.append(inputs.tensors[0].cpu())  # all steps together may be too much for an accelerator
    return torch.stack(found)


def calibration_states(ctx: RunContext, seed: int, count: int) -> Tensor:
    """States of (at most) the first `count` calibration trajectories at every step and at the end: (n, S + 1, C, H, W)."""
    pieces = [trajectory_shard(ctx, Costs(), seed, ids) for ids in trajectory_shards(ctx) if ids.start < count]
    return torch.cat(pieces)[:count]


DENOISING_SAMPLES = 64
"""Trajectories whose ends stand for clean samples when the full-precision model's own error is measured."""


def denoising_error(ctx: RunContext, costs: Costs, seed: int) -> Tensor:
    """The full-precision model's training loss at each sampling step, (S,) float32, on samples of its own:
    mean of |eps - eps(sqrt(a) x0 + sqrt(1 - a) eps, t)|^2 over samples, channels and pixels, with fresh noise; of a flow the
    velocity's.

    Of a guided model, in the first of the calibrated branches: no training makes the combined prediction's small.
    """

    @torch.inference_mode()
    def make(_: Entry) -> dict[str, Tensor]:
        clean = calibration_states(ctx, seed, DENOISING_SAMPLES)[:, -1]
        rng, predictor, errors = stream(seed, "denoising error"), ctx.predictor(), []
        for s in range(ctx.schedule.steps):
            noise = normal(clean.shape, rng)
            x, wanted = noised(ctx.model.prediction, clean, noise, float(ctx.schedule.alpha[s]))
            found = [
                evaluate_piece(ctx, predictor, x[ids.start : ids.stop], s, ids, ctx.calibrated[0]).float().cpu()
                for ids in shards(len(x), ctx.experiment.calibration.batch)
            ]
            errors.append((torch.cat(found) - wanted).square().mean())
        return {"error": torch.stack(errors)}

    calibration = ctx.experiment.calibration
    key = content_key(ctx.base_key, "denoising error", seed, calibration.trajectories, calibration.batch, ctx.calibrated[0])
    return cached_tensors(ctx.cache, costs, "denoising-error", key, make)["error"]


def probe_states(ctx: RunContext, costs: Costs) -> dict[str, Tensor]:
    """Held-out trajectories: "x" (P, S, C, H, W), each step's input, and "eps", the full-precision prediction there.

    Of a model with several branches also the noise prediction of each, by its name.
    """

    probes, batch = ctx.experiment.evaluation.probes, ctx.experiment.calibration.batch

    def make(_: Entry) -> dict[str, Tensor]:
        pieces = [_probe_piece(ctx, ids) for ids in shards(probes, batch)]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}

    key = content_key(ctx.base_key, "probe", ctx.experiment.sampling.seed, probes, batch)
    return cached_tensors(ctx.cache, costs, "probe", key, make)


def _probe_piece(ctx: RunContext, ids: range) -> dict[str, Tensor]:
    steps: list[dict[str, Tensor]] = []

    def note(s: int, x: Tensor, found: Prediction) -> None:
        branches = found.branches if len(found.branches) > 1 else {}
        steps.append({name: value.cpu() for name, value in {"x": x, "eps": found.eps, **branches}.items()})

    seed = ctx.experiment.sampling.seed
    sample(ctx.predictor(), ids, seed=seed, block="probe", device=ctx.device, on_step=note)
    return {name: torch.stack([step[name] for step in steps], dim=1) for name in steps[0]}
