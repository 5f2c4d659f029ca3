"""What all stages of a run share: the experiment, the cache, the device, and the model loaded once per process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ptqbench.boundary.build import build
from ptqbench.digest import code_digest, fingerprint
from ptqbench.errors import UserError
from ptqbench.evaluate.pictures import reference_files
from ptqbench.quant.layer import StepContext
from ptqbench.quant.plan import Probe
from ptqbench.quant.probe import probe_denoiser
from ptqbench.recipe.experiment import Calibration, Experiment
from ptqbench.roles.features import FeatureExtractor
from ptqbench.roles.model import DiffusionModel, ModelSource
from ptqbench.roles.solver import Schedule, Solver
from ptqbench.stage.arithmetic import arithmetic, fix_arithmetic
from ptqbench.stage.cache import Cache, content_key
from ptqbench.stage.machine import computing_packages, hardware, processor
from ptqbench.stage.no_features import NoFeatures
from ptqbench.stage.precision import FLOAT32, arithmetic_words
from ptqbench.stage.predictor import Predictor

CAPTURE_BUDGET = 128 * 2**20
"""Bytes of full-precision unit outputs that one process keeps at a time."""

REPLAY_BUDGET = 256 * 2**20
"""Bytes of unit outputs that one process keeps of each of the two networks, so that captures need not compute them again."""

REFERENCE_SETTING = "evaluation.reference"

T = TypeVar("T")

_NUMERIC = (
    *(f"{room}/*.py" for room in ("quant", "stage", "sampling", "fitting", "measuring", "running", "evaluate", "roles")),
    "results/record.py",
)
"""The core's files that make numbers, and the one that cached records are read with."""


class lasting(cached_property[T]):
    """A cached property that is computed outside torch's inference mode, in which whoever asks first may be: what comes from
    there can never be differentiated through."""

    def __get__(self, instance: Any, owner: type | None = None) -> T:  # type: ignore[override]
        with torch.inference_mode(False):
            found: T = super().__get__(instance, owner)
        return found


@cache
def core_fingerprint(root: Path = Path(__file__).parents[1]) -> str:
    """Hash of the core's own numerics, so that a changed engine never serves results of the old one; comments and docstrings
    do not count."""
    paths = {path for pattern in _NUMERIC for path in root.glob(pattern)}
    return code_digest({path.relative_to(root).as_posix(): path.read_bytes() for path in paths})[:16]


@dataclass(frozen=True)
class Settings:
    """Where and how a run computes. `threads` is per process; equal for all, so that numbers do not depend on the split."""

    cache: Path
    device: str
    workers: int
    threads: int


@dataclass
class RunContext:
    """One per process. `threads` are those of this process; `of` sets them, and is how a run makes its contexts."""

    experiment: Experiment
    cache: Cache
    device: torch.device
    threads: int = field(default_factory=torch.get_num_threads)

    @classmethod
    def of(cls, experiment: Experiment, settings: Settings) -> RunContext:
        """The context of a run, in a process that from now on computes as the settings say."""
        fix_arithmetic(settings.threads)
        return cls(experiment, Cache(settings.cache, experiment.name), torch.device(settings.device), settings.threads)

    @lasting
    def arithmetic(self) -> str:
        """What numbers are computed in (`ptqbench.stage.precision.arithmetic_words`)."""
        return arithmetic_words(self.device)

    @lasting
    def source(self) -> ModelSource:
        return build(self.experiment.model)

    @lasting
    def model(self) -> DiffusionModel:
        """The model as the recipe guides it. Raises `UserError` if it cannot be guided or calibrated so."""
        model = self.source.load(self.device).guided(self.experiment.sampling.guidance)
        require_branches(self.experiment.calibration, model.branches)
        return model

    @lasting
    def calibrated(self) -> tuple[str, ...]:
        """The branches that calibration samples are taken from."""
        return self.experiment.calibration.branches or self.model.branches

    @lasting
    def source_fingerprint(self) -> str:
        """Hash of the model's weights and configuration."""
        return self.source.fingerprint()

    @lasting
    def reference_digest(self) -> str | None:
        """SHA-256 (hex) over the files of `evaluation.reference`, or None without it.

        It is remembered in the cache while names, sizes and times of change stay the same. Raises `UserError` if files are
        missing.
        """
        path = self.experiment.evaluation.reference
        if path is None:
            return None
        files = reference_files(path, REFERENCE_SETTING)
        states = [(name, file.stat()) for name, file in files.items()]
        listing = [[name, state.st_size, state.st_mtime_ns] for name, state in states]
        with self.cache.locked("reference", content_key(str(path.resolve()), listing)) as entry:
            if not entry.has("content.json"):
                entry.save_json("content.json", {"sha256": fingerprint(files)})
            found: str = entry.load_json("content.json")["sha256"]
            return found

    @lasting
    def computing_key(self) -> list[Any]:
        """What computes: the engine, packages, the kind of device with its name, threads on a CPU, and how precisely, where
        that is not as it should be."""
        return [
            core_fingerprint(),
            computing_packages(),
            self.device.type,
            hardware(str(self.device)).get("accelerator", ""),
            # On a CPU its kind and the number of threads decide the order of sums, and so the last bits.
            *([self.threads, processor(), torch.backends.cpu.get_cpu_capability()] if self.device.type == "cpu" else [0]),
            *([self.arithmetic] if self.arithmetic != FLOAT32 else []),
        ]

    @lasting
    def base_key(self) -> list[Any]:
        """What every stage depends on: the model, what computes, the sampling schedule."""
        sampling = self.experiment.sampling
        return [
            self.experiment.model.key,
            self.source_fingerprint,
            self.computing_key,
            self.experiment.solver.key,
            [self.grid, sampling.steps, sampling.eta, *([sampling.guidance] if sampling.guided else [])],
        ]

    @lasting
    def extractor(self) -> FeatureExtractor:
        """The feature extractor, without its weights."""
        chosen = self.experiment.evaluation.features
        return NoFeatures() if chosen is None else build(chosen)

    @lasting
    def loaded_extractor(self) -> FeatureExtractor:
        """The feature extractor with its weights on the device."""
        self.extractor.prepare(self.device)
        return self.extractor

    @lasting
    def features_fingerprint(self) -> str:
        """Hash of the feature extractor's weights; "" if no metric reads features, so that weights need not be there."""
        read = any(build(bound).reads for bound in self.experiment.evaluation.metrics)
        return self.extractor.fingerprint() if read else ""

    @lasting
    def metric_files(self) -> list[str]:
        """Hashes of the files that the metrics' options name, of those that name any."""
        return [files for bound in self.experiment.evaluation.metrics if (files := build(bound).fingerprint())]

    @lasting
    def schedule(self) -> Schedule:
        """The steps of the recipe's solver on the model's noise. Raises `UserError` if they do not fit."""
        sampling, grid = self.experiment.sampling, self.grid
        require_kind(self.experiment.solver.name, self.solver, self.model)
        return self.solver.schedule(self.model.alphas_cumprod, grid, sampling.steps, sampling.eta)

    @lasting
    def solver(self) -> Solver:
        """The recipe's solver. Raises `UserError` for an eta that it does not know."""
        solver: Solver = build(self.experiment.solver)
        if self.experiment.sampling.eta and not solver.stochastic:
            name = self.experiment.solver.name
            raise UserError(f"sampling.eta is not 0, and the solver {name!r} is deterministic", "leave eta out, or use ddim")
        return solver

    @property
    def grid(self) -> str:
        """The spacing of timesteps. Raises `UserError` for one that the solver does not know."""
        grid, known = self.experiment.sampling.grid or self.solver.grids[0], self.solver.grids
        if grid not in known:
            name = self.experiment.solver.name
            raise UserError(f"the solver {name!r} has no grid {grid!r}", f"sampling.grid is one of {', '.join(known)}")
        return grid

    @lasting
    def probe(self) -> Probe:
        """Layers and call order of the denoiser, from one forward pass with two samples."""
        model = self.model
        rng = torch.Generator("cpu").manual_seed(0)
        x = torch.randn(2, *model.shape, generator=rng, dtype=torch.float32, device="cpu").to(self.device)
        t = self.schedule.timesteps[:1].repeat(2).to(self.device)
        cond = next(iter(model.conditions_of(range(2), self.device, "images").values()))
        with arithmetic():
            found = probe_denoiser(model.denoiser, lambda: model.call(model.denoiser, x, t, cond), x)
        return dataclasses.replace(found, steps=self.schedule.steps)

    def predictor(self, denoiser: nn.Module | None = None, context: StepContext | None = None) -> Predictor:
        """The full-precision predictor, or that of a quantized copy."""
        return Predictor(self.model, self.model.denoiser if denoiser is None else denoiser, self.schedule, context)

    def to_device(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}


def require_kind(name: str, solver: Solver, model: DiffusionModel) -> None:
    """Raises `UserError` if a solver of this name does not take what the model predicts: noise, or the velocity of a flow."""
    if model.prediction == "flow" and not solver.flow:
        raise UserError(
            f"the model predicts the velocity of a flow, and the solver {name!r} takes predictions of noise",
            'use one for flows: sampling.solver = "flow-euler"',
        )
    if solver.flow and model.prediction != "flow":
        raise UserError(
            f"the solver {name!r} is for flows, and the model is none: it predicts {model.prediction!r}",
            "use another, such as ddim",
        )


def require_branches(calibration: Calibration, branches: tuple[str, ...]) -> None:
    """Raises `UserError` for branches to calibrate that a prediction does not have, or that do not share the samples evenly."""
    chosen = calibration.branches or branches
    unknown = [name for name in chosen if name not in branches]
    if unknown:
        raise UserError(
            f"calibration.branches names {', '.join(unknown)}, and this model's predictions are made of {', '.join(branches)}",
            "leave it out to calibrate all of them" if len(branches) > 1 else "leave it out, or set sampling.guidance",
        )
    if calibration.samples % len(chosen):
        raise UserError(
            f"{calibration.samples} calibration samples cannot be shared evenly by {len(chosen)} branches "
            f"({', '.join(chosen)}): each state is taken in all of them",
            f"set calibration.samples to a multiple of {len(chosen)}, or name one branch in calibration.branches",
        )


def pick_device(name: str) -> torch.device:
    """The device for "auto" (an accelerator if torch sees one), or the one named. Raises `UserError` if it is not there."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, dtype=torch.float32, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} is not usable: {reason}", "use --device cpu, or see `ptqbench doctor`") from error
    return device
