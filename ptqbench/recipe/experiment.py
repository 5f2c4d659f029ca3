"""What a checked recipe becomes: plain frozen data that the engine reads and never changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ptqbench.plugin.component import Bound
from ptqbench.plugin.names import FULL_PRECISION, row_name

DEFAULT_SOLVER = "ddim"
"""What images are sampled with where a recipe does not say."""

FULL_BITS = 32
"""Bits that mean: not quantized."""

UNCALIBRATED = 0
"""The calibration seed of full-precision cells, which calibrate nothing: equal in all recipes, so that their results are."""


@dataclass(frozen=True)
class SiteChoice:
    """How weights (or activations) are quantized by default; plan passes may override single layers.

    `each` says that `steps` stands for every step of the solver, which may predict more often than the recipe has steps (PLMS).
    """

    bits: int
    per: Literal["tensor", "channel"]
    symmetric: bool
    quantizer: Bound
    range: Bound
    steps: int = 1
    each: bool = False

    @property
    def off(self) -> bool:
        return self.bits == FULL_BITS

    @property
    def key(self) -> dict[str, Any]:
        """What identifies this choice in a cache key."""
        grid = {"bits": self.bits, "per": self.per, "symmetric": self.symmetric, "steps": self.steps}
        return grid | ({"each": True} if self.each else {}) | {"quantizer": self.quantizer.key, "range": self.range.key}


@dataclass(frozen=True)
class Method:
    """One PTQ method: an answer for each role.

    `losses` are empty if the reconstruction fits nothing; `network` is the library that quantizes instead of all but the
    sampler, if there is one. `preset` names the preset that the method started from.
    """

    name: str
    sampler: Bound
    weighter: Bound
    reconstruction: Bound
    weights: SiteChoice
    activations: SiteChoice
    passes: tuple[Bound, ...]
    partitioner: Bound | None
    losses: tuple[Bound, ...] = ()
    hooks: tuple[Bound, ...] = ()
    preset: str = ""
    network: Bound | None = None

    @property
    def bits(self) -> str:
        """Such as "W4A8"."""
        return f"W{self.weights.bits}A{self.activations.bits}"

    def components(self) -> Iterator[Bound]:
        """Everything that the method chose, sites included."""
        yield from (self.sampler, self.weighter, self.reconstruction, *self.losses)
        yield from (self.weights.quantizer, self.weights.range, self.activations.quantizer, self.activations.range)
        yield from (*self.passes, *self.hooks)
        yield from (bound for bound in (self.partitioner, self.network) if bound is not None)

    @property
    def key(self) -> dict[str, Any]:
        """What identifies this method in a cache key; its name and where it started from do not count."""
        return {
            "sampler": self.sampler.key,
            "weighter": self.weighter.key,
            "reconstruction": self.reconstruction.key,
            "weights": self.weights.key,
            "activations": self.activations.key,
            "passes": [p.key for p in self.passes],
            "partitioner": self.partitioner.key if self.partitioner else None,
            "losses": [term.key for term in self.losses],
            "hooks": [hook.key for hook in self.hooks],
            **({"network": self.network.key} if self.network else {}),
        }


@dataclass(frozen=True)
class Cell:
    """One row of the comparison before seeds are averaged: method x bits x variant x calibration seed.

    `method` is None where nothing is quantized: in `FULL_PRECISION_CELL`. `variant` spells out generic sweep
    axes, for example "temperature=0.5".
    """

    method: Method | None
    seed: int
    variant: str = ""

    @property
    def name(self) -> str:
        return self.method.name if self.method else FULL_PRECISION

    @property
    def bits(self) -> str:
        return f"W{FULL_BITS}A{FULL_BITS}" if self.method is None else self.method.bits

    @property
    def row(self) -> str:
        """The id without the seed, which names a row of the table: "gacq/W4A8/temperature=0.5"."""
        if self.method is None:
            return f"{FULL_PRECISION}, {self.variant}" if self.variant else FULL_PRECISION
        return row_name(self.name, self.bits, self.variant)

    @property
    def id(self) -> str:
        """Unique in the experiment, readable, and usable with `run --only`."""
        return self.row if self.method is None else f"{self.row}/seed{self.seed}"


FULL_PRECISION_CELL = Cell(None, UNCALIBRATED)
"""The row that stands in every comparison."""


@dataclass(frozen=True)
class Sampling:
    """How images are generated: the timestep grid (None for the solver's usual one), its number of steps, DDIM's eta, and how
    many images from which noise.

    `guidance` is the scale of classifier-free guidance; None, or 1, for none.
    """

    grid: str | None
    steps: int
    eta: float
    images: int
    seed: int
    batch: int
    guidance: float | None = None

    @property
    def guided(self) -> bool:
        return self.guidance not in (None, 1)


@dataclass(frozen=True)
class Calibration:
    """The budget that every method gets: full-precision trajectories, samples drawn from them (training and validation).

    A sample is one denoiser call on one row: a state under the conditions of one branch. `branches` are those that every
    chosen state is taken in; all that a prediction is made of if None.
    """

    trajectories: int
    samples: int
    batch: int
    branches: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What is measured: features, metrics, and on how many held-out trajectories noise predictions are compared.

    `features` are None where the recipe names none, which is right if no metric reads any. `reference` is the folder or file
    of real images that takes the place of those that the model brings.
    """

    features: Bound | None
    metrics: tuple[Bound, ...]
    probes: int
    reference: Path | None = None

    @property
    def features_name(self) -> str:
        return self.features.name if self.features else "none"

    @property
    def features_key(self) -> dict[str, Any] | None:
        """What identifies the extractor in a cache key."""
        return self.features.key if self.features else None


@dataclass(frozen=True)
class PublishedRow:
    """A number from a paper, for the side-by-side table."""

    method: str
    bits: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class PublishedTable:
    """Numbers from a paper: never mixed into the measured table."""

    title: str
    source: str
    rows: tuple[PublishedRow, ...]


@dataclass(frozen=True)
class Experiment:
    """A recipe after checking and expansion. `raw` is the merged TOML data (with --set applied), in which relative paths start
    at `folder`, an absolute path.

    `digest` is the SHA-256 of that and of what its methods resolve to, which presets and defaults have a part in. `overrides`
    are the words of `--set`, where it was loaded with any, and `profile` names the recipe's profile that it was loaded in.
    """

    name: str
    title: str
    paper: str
    baseline: str
    path: Path | None
    folder: Path
    raw: Mapping[str, Any]
    digest: str
    plugin_files: tuple[Path, ...]
    model: Bound
    solver: Bound
    sampling: Sampling
    calibration: Calibration
    evaluation: Evaluation
    cells: tuple[Cell, ...]
    published: tuple[PublishedTable, ...]
    reporters: tuple[Bound, ...]
    overrides: tuple[str, ...] = ()
    profile: str = ""

    def components(self) -> Iterator[Bound]:
        """Everything that the run will build: model, solver, features, metrics, reporters, what each cell's method chose."""
        yield from (self.model, self.solver)
        if self.evaluation.features is not None:
            yield self.evaluation.features
        yield from (*self.evaluation.metrics, *self.reporters)
        for cell in self.cells:
            if cell.method is not None:
                yield from cell.method.components()
