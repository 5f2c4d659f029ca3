"""What can be known before anything is fitted: the model, the metrics, and whether each cell's method fits both."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from ptqbench.boundary.build import build, owner_of
from ptqbench.errors import EXIT_CELL_FAILED, EXIT_PLUGIN, EXIT_USAGE, CellFailedError, UserError
from ptqbench.failures import PLUGIN_ERRORS, PluginFault, reason_of, told, words
from ptqbench.fitting.method import phases_with_work
from ptqbench.measuring.features import metric_problems
from ptqbench.plugin.classes import check_classes
from ptqbench.quant.plan import SITES, Plan
from ptqbench.quant.steps import step_group
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.recipe.experiment import Cell, Method
from ptqbench.roles.sampler import TrajectoryGrid
from ptqbench.roles.weighter import SampleWeighter
from ptqbench.running.bridge import library_versions
from ptqbench.running.cell import cell_quantizer
from ptqbench.running.timing import seconds_per_evaluation
from ptqbench.sampling.calibrate import split
from ptqbench.sampling.reference import step_features, trajectory_shards
from ptqbench.sampling.rng import stream
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext

PICTURE_CHANNELS = (1, 3)
"""Grey and colour: what pictures of samples, pixel metrics and feature extractors take."""

PATIENCE = 30.0
"""Seconds that features of trajectories may take before anything else runs; the trajectories stay in the cache."""

Features = Callable[[int, str, int], Tensor]
"""The input of a submodule at every step of the first calibration trajectories, by seed, module and their number."""


class PreflightError(UserError):
    """What stands in the way of the whole run, in one list; the exit code is that of the first."""


@dataclass(frozen=True)
class Findings:
    """Problems of what all cells share, and of single cells by their id.

    `waiting` are the cells whose sampler reads features of trajectories that would take long to compute.
    """

    shared: list[UserError] = field(default_factory=list)
    cells: dict[str, UserError] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """That of what all cells share, else that of a plugin, else that of a cell; 0 if nothing was found."""
        if self.shared:
            return self.shared[0].exit_code
        if any(error.exit_code == EXIT_PLUGIN for error in self.cells.values()):
            return EXIT_PLUGIN
        return EXIT_CELL_FAILED if self.cells else 0

    def lines(self) -> list[str]:
        """One problem a line or two; cells that fail alike are told together."""
        alike: dict[str, list[str]] = {}
        for name, error in self.cells.items():
            alike.setdefault(str(error), []).append(name)
        return [*map(str, self.shared), *(f"{', '.join(names)}: {text}" for text, names in alike.items())]

    def require_shared(self) -> None:
        """Raises `PreflightError`, or the only problem as it is, if what all cells share has any."""
        if len(self.shared) == 1:
            raise self.shared[0]
        if self.shared:
            numbered = "\n".join(f"{i}. {error}" for i, error in enumerate(self.shared, start=1))
            found = PreflightError(f"{len(self.shared)} problems before anything is computed\n{numbered}")
            found.exit_code = self.exit_code
            raise found


def preflight(ctx: RunContext, *, measuring: bool = True) -> Findings:
    """Everything that needs no fit: one trial of the model, the metrics' wants, each cell's plan, units, samples and phases.

    Without `measuring` metrics do not matter. Raises `PluginError` for a component whose class cannot be used.
    """
    check_classes(ctx.experiment.components())
    shared = [*_model_problems(ctx), *(metric_problems(ctx) if measuring else [])]
    return Findings(shared) if shared else cell_problems(ctx, ctx.experiment.cells, PATIENCE)


def cell_problems(ctx: RunContext, cells: Iterable[Cell], patience: float = math.inf) -> Findings:
    """Why some of the cells will fail; samplers get features of trajectories where these take at most `patience` seconds."""

    @cache
    def features(seed: int, module: str, count: int) -> Tensor:
        if patience < math.inf and _seconds_of_features(ctx, count) > patience:
            raise _NeedsTrajectories
        return step_features(ctx, seed, module, count)

    found, waiting = dict[str, UserError](), []
    for cell in cells:
        if cell.method is not None:
            try:
                if (error := _cell_problem(ctx, cell, cell.method, features)) is not None:
                    found[cell.id] = error
            except _NeedsTrajectories:
                waiting.append(cell.id)
    return Findings([], found, tuple(waiting))


def _seconds_of_features(ctx: RunContext, count: int) -> float:
    """What features of `count` trajectories take, from none of them computed."""
    trajectories = sum(len(ids) for ids in trajectory_shards(ctx) if ids.start < count)
    calls = ctx.schedule.steps * (trajectories * len(ctx.model.branches) + count)
    return calls * seconds_per_evaluation(ctx)


def _model_problems(ctx: RunContext) -> Iterator[UserError]:
    try:
        with arithmetic(), torch.inference_mode():
            _try_model(ctx)
    except UserError as error:
        yield error


def _try_model(ctx: RunContext) -> None:
    """Evaluate the denoiser at the first, a middle and the last step, and decode one picture.

    Raises `UserError` where the model's files do not fit together, `PluginFault` where its plugin's own code fails.
    """
    model = ctx.model
    rng = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(1, *model.shape, generator=rng, dtype=torch.float32, device="cpu").to(ctx.device)
    for s in sorted({0, ctx.schedule.steps // 2, ctx.schedule.steps - 1}):
        t = f"{ctx.schedule.timesteps[s].item():g}"
        eps = _model_call(ctx, f"the denoiser fails at timestep {t}", partial(_predict, ctx, x, s))
        if tuple(eps.shape) != tuple(x.shape):
            raise UserError(
                f"the denoiser makes {tuple(eps.shape)} of {tuple(x.shape)} (samples, channels, height, width)",
                "its configuration does not fit its schedule or decoder",
            )
        if not bool(torch.isfinite(eps).all()):
            raise UserError(
                f"the full-precision denoiser's prediction at timestep {t} is not finite",
                "its weights have values that are not finite, or too large for float32: look at the model's files",
            )
    picture = _model_call(ctx, "the latents cannot be decoded", lambda: model.decode(x))
    if picture.dim() != 4 or picture.shape[1] not in PICTURE_CHANNELS:
        raise UserError(
            f"the model's images are {tuple(picture.shape)} (images, channels, height, width)",
            f"pictures and metrics take {' or '.join(map(str, PICTURE_CHANNELS))} channels: choose another model or decoder",
        )
    if not bool(torch.isfinite(picture).all()):
        raise UserError("the decoded image is not finite", "look at the decoder's weights")


def _predict(ctx: RunContext, x: Tensor, s: int) -> Tensor:
    step = torch.full((1,), s, dtype=torch.int64, device="cpu")
    return ctx.predictor()(x, step, ctx.model.conditions_of(range(1), ctx.device, "images")).eps


def _model_call(ctx: RunContext, what: str, call: Callable[[], Tensor]) -> Tensor:
    """The result of a call into the model; errors of the network itself come from the model's files, and say so."""
    try:
        return call()
    except PLUGIN_ERRORS as error:
        cause = error.__cause__ if isinstance(error, PluginFault) and error.__cause__ is not None else error
        if isinstance(cause, UserError) or _own(ctx, cause):
            raise
        if (known := told(cause)) is not None:
            raise known from error
        raise UserError(
            f"{what}, with an input of {ctx.model.shape}: {words(cause)}",
            "the model's files do not fit together: look at sizes, number of timesteps and blocks in its configuration",
        ) from error


def _own(ctx: RunContext, error: BaseException) -> bool:
    """Whether the innermost line of an error is the model plugin's own."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    module = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    return module.partition(".")[0] == owner_of(ctx.experiment.model).package


class _NeedsTrajectories(Exception):
    """A sampler asked for features of trajectories, which take long."""


def _cell_problem(ctx: RunContext, cell: Cell, method: Method, features: Features) -> UserError | None:
    """Why a cell will fail, as far as that can be known without a fit. Raises `_NeedsTrajectories`."""
    try:
        if method.network is not None:
            library_versions(method.network)
            return None
        quantizer = cell_quantizer(ctx, cell, Costs(), lambda *_: None)
        plan, stages = quantizer.plan, quantizer.stages
        for phase in phases_with_work(quantizer.reconstruction, method):
            quantizer.reconstruction.course(phase)
        if any(stage.sampled for stage in stages):
            trained = _select(ctx, cell, method, partial(features, cell.seed))
            if not method.activations.off:
                _require_every_group(plan, method, trained, ctx.schedule.steps)
    except _NeedsTrajectories:
        raise
    except UserError as error:
        # A sampler that finds too few trajectories raises a plain one: it is this cell's all the same.
        return CellFailedError(error.message, error.hint) if error.exit_code == EXIT_USAGE else error
    except PLUGIN_ERRORS as error:
        if isinstance(error.__cause__ or error.__context__, _NeedsTrajectories):
            raise _NeedsTrajectories from error
        return told(error) or CellFailedError(reason_of(error))
    return None


def _select(ctx: RunContext, cell: Cell, method: Method, features: Callable[[str, int], Tensor]) -> Tensor:
    """Choose the calibration samples and split them, with the streams that the run will use; the sampling steps of those that
    are trained on, (N,)."""
    wanted, branches, steps = ctx.experiment.calibration, len(ctx.calibrated), ctx.schedule.steps
    grid = TrajectoryGrid(ctx.schedule.timesteps, wanted.trajectories, ctx.probe.calls, features)
    count = wanted.samples // branches
    try:
        chosen = build(method.sampler).select(grid, count, stream(cell.seed, f"sampler/{method.sampler.name}"))
    except PluginFault as error:
        if isinstance(error.__cause__, _NeedsTrajectories):
            raise _NeedsTrajectories from error
        raise
    weighter: SampleWeighter = build(method.weighter)
    needs = weighter.requires
    each = chosen.step.clamp_max(steps - 1).repeat_interleave(branches, 0)
    parts = split(each, steps, needs.validation, needs.groups, stream(cell.seed, "validation split"), branches)
    return each[parts.train]


def _require_every_group(plan: Plan, method: Method, trained: Tensor, steps: int) -> None:
    """Grids for each range of steps need values of each: uniform quantizers refuse to freeze what saw none, after the fits."""
    made = method.activations.quantizer.component.load()
    if not issubclass(made, UniformQuantizer) or made.freeze is not UniformQuantizer.freeze:
        return
    specs = [p.activation for p in plan.layers] + [a.spec(site) for a in plan.attentions for site in SITES]
    for groups in sorted({spec.steps for spec in specs if spec is not None and spec.steps > 1}):
        if missing := set(range(groups)) - set(step_group(trained, steps, groups).tolist()):
            raise CellFailedError(
                f"there are grids for {groups} ranges of sampling steps, and no calibration samples of {len(missing)} of them",
                "choose a sampler that reaches all steps, or fewer groups",
            )
