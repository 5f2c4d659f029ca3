"""Full-precision stages, computed once per model and sampler and shared by all cells: trajectories, probes, images."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.engine.cache import Costs, Entry, cached_tensors, content_key
from ptqbench.engine.calibrate import CalibrationSet, gather
from ptqbench.engine.context import RunContext
from ptqbench.engine.rng import stream
from ptqbench.engine.sample import sample, shards
from ptqbench.errors import CellFailedError
from ptqbench.recipe.experiment import Method
from ptqbench.roles.sampler import CalibrationSampler, TrajectoryGrid


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
            on_step=lambda s, x, eps: states.append(x.cpu()),
        )
        return {"states": torch.stack([*states, final.cpu()], dim=1)}

    key = content_key(ctx.base_key, "trajectories", seed, [ids.start, ids.stop])
    return cached_tensors(ctx.cache, costs, "trajectories", key, make)["states"]


def trajectory_shards(ctx: RunContext) -> list[range]:
    """How the recipe's calibration trajectories are cut into tasks."""
    return shards(ctx.experiment.calibration.trajectories, ctx.experiment.calibration.batch)


def calibration_set(ctx: RunContext, costs: Costs, method: Method, seed: int) -> tuple[CalibrationSet, str]:
    """The calibration set of a method and its key. Methods with equal samplers get the very same set."""
    wanted = ctx.experiment.calibration
    key = content_key(ctx.base_key, "calibration", method.sampler.key, wanted.trajectories, wanted.samples, seed)

    def make(_: Entry) -> dict[str, Tensor]:
        sampler: CalibrationSampler = method.sampler.create()
        grid = TrajectoryGrid(ctx.schedule.timesteps, wanted.trajectories)
        chosen = sampler.select(grid, wanted.samples, stream(seed, f"sampler/{method.sampler.name}"))
        if len(chosen.step) != wanted.samples:
            raise CellFailedError(
                f"sampler {method.sampler.name!r} chose {len(chosen.step)} samples, the budget is {wanted.samples}",
                "mend the sampler's select()",
            )
        pieces = [(ids, trajectory_shard(ctx, Costs(), seed, ids)) for ids in trajectory_shards(ctx)]

        def states(trajectory: int) -> Tensor:
            ids, tensor = next(p for p in pieces if trajectory in p[0])
            return tensor[trajectory - ids.start]

        cond = dict(ctx.model.conditions(range(wanted.trajectories)))
        found = gather(chosen, ctx.schedule.timesteps, states, cond)
        fields = {"x": found.x, "t": found.t, "step": found.step, "trajectory": found.trajectory}
        return fields | {f"cond.{name}": value for name, value in found.cond.items()}

    saved = cached_tensors(ctx.cache, costs, "calibration", key, make)
    cond = {name.removeprefix("cond."): value for name, value in saved.items() if name.startswith("cond.")}
    return CalibrationSet(saved["x"], saved["t"], saved["step"], saved["trajectory"], cond), key


def probe_states(ctx: RunContext, costs: Costs) -> dict[str, Tensor]:
    """Held-out trajectories: "x" (P, S, C, H, W), each step's input, and "eps", the full-precision prediction there."""

    def make(_: Entry) -> dict[str, Tensor]:
        inputs: list[Tensor] = []
        predictions: list[Tensor] = []

        def note(s: int, x: Tensor, eps: Tensor) -> None:
            inputs.append(x.cpu())
            predictions.append(eps.cpu())

        ids = range(ctx.experiment.evaluation.probes)
        seed = ctx.experiment.sampling.seed
        sample(ctx.predictor(), ids, seed=seed, block="probe", device=ctx.device, on_step=note)
        return {"x": torch.stack(inputs, dim=1), "eps": torch.stack(predictions, dim=1)}

    key = content_key(ctx.base_key, "probe", ctx.experiment.sampling.seed, ctx.experiment.evaluation.probes)
    return cached_tensors(ctx.cache, costs, "probe", key, make)
