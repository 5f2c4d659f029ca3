"""What was held equal: the protocol of a run, and a short id of it at every number."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ptqbench.plugin.component import Bound
from ptqbench.recipe.experiment import DEFAULT_SOLVER
from ptqbench.roles.metric import Metric
from ptqbench.roles.model import prompts_needed
from ptqbench.stage.cache import CacheWriteError, content_key
from ptqbench.stage.context import RunContext
from ptqbench.stage.precision import FLOAT32

CONVERSION = "clamp to [-1, 1], (x + 1) * 127.5, round half to even, uint8"
"""How every image becomes 8 bit (`ptqbench.sampling.sample.to_bytes`)."""


def protocol_id(ctx: RunContext, chosen: Bound, metric: Metric, n: int) -> str:
    """A short hash of everything that must be equal for two numbers of this metric to stand side by side.

    Model and weights, explicit timesteps, solver, eta, guidance, image conversion, what was computed in, the metric with its
    options, the extractor with its weights and outputs and the reference images where the metric reads features, and n. Bits,
    calibration and the block of noise are not part of it: those are what numbers are compared over.
    """
    parts: list[Any] = [
        ctx.experiment.model.name,
        ctx.source_fingerprint,
        ctx.schedule.timesteps.tolist(),
        ctx.experiment.sampling.eta,
        CONVERSION,
        ctx.arithmetic,
        [chosen.name, chosen.component.version, chosen.options.model_dump(mode="json")],
        n,
    ]
    if not plain_solver(ctx):
        solver = ctx.experiment.solver
        parts.append([solver.name, solver.component.version, solver.options.model_dump(mode="json")])
    if ctx.experiment.sampling.guided:
        parts.append(["guidance", ctx.model.guidance])
    if files := metric.fingerprint():
        parts.append(["files", files])
    if metric.reads:
        real = ctx.reference_digest or ctx.source_fingerprint
        parts += [ctx.experiment.evaluation.features_name, ctx.features_fingerprint, list(metric.reads), real]
    return content_key(*parts)[:10]


def plain_solver(ctx: RunContext) -> bool:
    """Whether timesteps and eta say all about the solver: DDIM with nothing set, as before there were others."""
    solver = ctx.experiment.solver
    return solver.name == DEFAULT_SOLVER and solver.options == solver.component.options()


def protocol(ctx: RunContext) -> dict[str, Any]:
    """What every cell of the table has in common; numbers under another protocol are not comparable."""
    e = ctx.experiment
    return {
        "model": e.model.name,
        "weights": ctx.source_fingerprint,
        "features": e.evaluation.features_name,
        "features sha256": ctx.features_fingerprint,
        "real images sha256": ctx.reference_digest or "",
        **({} if plain_solver(ctx) else {"solver": e.solver.name}),
        "grid": ctx.grid,
        "steps": e.sampling.steps,
        "eta": e.sampling.eta,
        "images": e.sampling.images,
        "image seed": e.sampling.seed,
        "trajectories": e.calibration.trajectories,
        "calibration samples": e.calibration.samples,
        "execution": "simulated",
        **_of_model(ctx),
        **({"arithmetic": ctx.arithmetic} if ctx.arithmetic != FLOAT32 else {}),
    }


def _of_model(ctx: RunContext) -> dict[str, Any]:
    """What only the loaded model tells; kept in the cache, so that finished cells are read without it."""
    e = ctx.experiment
    ids = [e.sampling.images, e.calibration.trajectories, e.evaluation.probes]
    try:
        with ctx.cache.locked("protocol", content_key(ctx.base_key, ids, e.calibration.branches)) as entry:
            if not entry.has("model.json"):
                entry.save_json("model.json", _told(ctx))
            found: dict[str, Any] = entry.load_json("model.json")
            return found
    except CacheWriteError:
        return _told(ctx)  # also the record of a run that a full disk ended says what was held equal


def _told(ctx: RunContext) -> dict[str, Any]:
    prompts = {"prompts": len(ctx.model.prompts), "shared prompts": shared_prompts(ctx)} if ctx.model.prompts else {}
    guidance = {"guidance": ctx.model.guidance, "calibrated branches": list(ctx.calibrated)}
    return prompts | (guidance if ctx.experiment.sampling.guided else {})


def shared_prompts(ctx: RunContext) -> str:
    """How many prompts are told to more than one of images, calibration and held-out trajectories, and how many would be
    enough; "" for none."""
    e, prompts = ctx.experiment, ctx.model.prompts
    wanted = {"images": e.sampling.images, "calibration": e.calibration.trajectories, "probe": e.evaluation.probes}
    ids = {block: ctx.model.condition_ids(range(count), block) for block, count in wanted.items()}
    told = Counter(text for block in ids.values() for text in {prompts[i % len(prompts)] for i in block}) if prompts else {}
    shared = sum(count > 1 for count in told.values())
    return f"{shared} of {len(told)}; {prompts_needed(*wanted.values())} different lines keep them apart" if shared else ""
