"""Findings made by hand, under cells of the toy recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from enginekit import experiment

from ptqbench.diagnostics.arms import alignments, arms_of
from ptqbench.diagnostics.collect import Observation, UnitFindings
from ptqbench.diagnostics.learned import learned_weights
from ptqbench.diagnostics.records import noise_errors, weighter_costs
from ptqbench.diagnostics.summary import Summary, group_ranges
from ptqbench.recipe.experiment import Cell
from ptqbench.results.fits import FitQuality, StageLosses
from ptqbench.results.record import CellRecord, Number

MOMENTS, GROUPS, STEPS, TRAIN = 5, 5, 10, 60
TIMESTEPS = [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]


def quality(name: str) -> FitQuality:
    """A fit that decided all of its roundings but one in fifty."""
    return FitQuality("rounding", name, 100, StageLosses(1.0, 0.4, 0.41), variables=50, undecided=0.02)


def unit(name: str, rng: np.random.Generator, *, weighed: bool, updates: int = 12) -> UnitFindings:
    """Random findings of one unit."""
    half = rng.uniform(-1, 1, (MOMENTS, GROUPS, GROUPS))
    cosine = (half + half.transpose(0, 2, 1)) / 2
    cosine[:, range(GROUPS), range(GROUPS)] = 1.0
    shape = (MOMENTS, GROUPS)
    observed = {
        "cosine": cosine,
        "norm": rng.uniform(1, 2, shape),
        "loss": 10 ** rng.uniform(-2, 0, shape),
        "count": np.full(GROUPS, 12),
        "train.step": rng.integers(0, STEPS, TRAIN),
        "seconds": np.array([0.5]),
    }
    if not weighed:
        return UnitFindings(name, observed, {}, quality(name))
    weights = rng.uniform(0.2, 3.0, TRAIN)
    observed["agreement"] = rng.uniform(-0.5, 1.0, TRAIN // 2)
    observed["agreement.weight"] = weights[::2].copy()
    terms = {name: np.exp(-np.arange(updates) / 5) * rng.uniform(0.5, 1.5, updates) for name in ("validation", "matching")}
    return UnitFindings(name, observed, {"weights": weights, **terms}, quality(name))


def observe(cell: Cell, phase: str, seed: int, entry: str = "") -> Observation:
    """Random findings of two units."""
    rng = np.random.default_rng(seed)
    units = [unit(name, rng, weighed=cell.name == "gacq") for name in ("first", "second")]
    return Observation(cell, phase, entry or f"stage/{cell.id}/{phase}", 4.0 + cell.seed + (cell.name == "gacq"), units)


@pytest.fixture(scope="session")
def cells() -> list[Cell]:
    """qdiffusion and gacq at W4A32 and W4A8 with three calibration seeds."""
    made = experiment('sweep.bits=["W4A32", "W4A8"]', "sweep.seeds=[0, 1, 2]", methods=("qdiffusion", "gacq"))
    return [cell for cell in made.cells if cell.method]


@pytest.fixture
def observations(observed: Callable[[], list[Observation]]) -> list[Observation]:
    """Those of `observed`, to be changed."""
    return observed()


@pytest.fixture(scope="session")
def observed(cells: list[Cell]) -> Callable[[], list[Observation]]:
    """Rounding is shared by both bits; W4A8 has learned steps as well."""
    return partial(observe_all, cells)


def observe_all(cells: list[Cell]) -> list[Observation]:
    found = []
    for i, cell in enumerate(cells):
        found.append(observe(cell, "rounding", 100 * (cell.name == "gacq") + cell.seed, f"stage/{cell.name}{cell.seed}"))
        if cell.bits == "W4A8":
            found.append(observe(cell, "steps", 200 + i))
    return found


@pytest.fixture(scope="session")
def summarized() -> Callable[[list[Observation]], Summary]:
    """A summary of observations without finished runs."""

    def summarize(observations: list[Observation], **fields: object) -> Summary:
        arms = arms_of(observations)
        detail = {"t": [float(t) for t in TIMESTEPS], "error": [10.0**-i for i in range(STEPS)]}
        measured = {"eps-error": Number(1.0, 1.0, 1.0, 4, detail=detail, protocol="eeee")}
        records = {"gacq": CellRecord("gacq/W4A8/seed0", "gacq", "W4A8", "", 0, "ok", metrics=measured)}
        made = {
            "name": "toy",
            "title": "Toy",
            "digest": "0123456789",
            "created": "2030-01-01T00:00:00+00:00",
            "environment": {"ptqbench": "0", "torch": "2", "device": "cpu"},
            "recipe": {"sweep": {"only": ["gacq"]}},
            "timesteps": TIMESTEPS,
            "groups": group_ranges(TIMESTEPS, GROUPS),
            "arms": arms,
            "alignments": alignments(arms),
            "learned": learned_weights(arms, STEPS),
            "costs": weighter_costs(observations, {}),
            "noise_errors": noise_errors(records),
            "failed": {},
            "unfitted": [],
        }
        return Summary(**(made | fields))  # type: ignore[arg-type]

    return summarize
