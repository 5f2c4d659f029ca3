"""Everything that was found, as one value; and as plain data for diagnostics.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ptqbench.diagnostics.arms import Alignment, Arm, alignments, arms_of
from ptqbench.diagnostics.collect import Collected
from ptqbench.diagnostics.learned import Learned, learned_weights
from ptqbench.diagnostics.observer import MOMENTS
from ptqbench.diagnostics.records import Cost, finished_cells, noise_errors, weighter_costs
from ptqbench.quant.steps import step_group
from ptqbench.recipe.experiment import Experiment
from ptqbench.report.chart import Chart
from ptqbench.running.run import environment
from ptqbench.stage.context import RunContext, Settings

SCHEMA = 1

DIGITS = 6
"""Significant digits of the numbers in the data files."""


@dataclass(frozen=True)
class Summary:
    """A diagnosis. `timesteps` (S,) belong to the sampling steps, `groups` has the first and last timestep of each group."""

    name: str
    title: str
    digest: str
    created: str
    environment: dict[str, Any]
    recipe: Mapping[str, Any]
    timesteps: list[float]
    groups: list[tuple[float, float]]
    arms: list[Arm]
    alignments: list[Alignment]
    learned: list[Learned]
    costs: list[Cost]
    noise_errors: list[Chart]
    failed: dict[str, str]
    unfitted: list[str]

    @property
    def phases(self) -> list[str]:
        """Names of the phases, in the order of the recipe."""
        return list(dict.fromkeys(arm.phase for arm in self.arms))

    def of_phase(self, phase: str) -> list[Arm]:
        return [arm for arm in self.arms if arm.phase == phase]

    def arm(self, label: str) -> Arm:
        return next(arm for arm in self.arms if arm.label == label)

    def alignment(self, label: str) -> Alignment:
        return next(found for found in self.alignments if found.arm == label)


def summarize(experiment: Experiment, settings: Settings, collected: Collected, groups: int) -> Summary:
    """Bring the observations together with the records of finished runs."""
    ctx = RunContext.of(experiment, settings)
    timesteps = ctx.schedule.timesteps.tolist()
    arms = arms_of(collected.observations)
    records = finished_cells(ctx, experiment.cells)
    return Summary(
        name=experiment.name,
        title=experiment.title or experiment.name,
        digest=experiment.digest,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(settings),
        recipe=experiment.raw,
        timesteps=timesteps,
        groups=group_ranges(timesteps, groups),
        arms=arms,
        alignments=alignments(arms),
        learned=learned_weights(arms, len(timesteps)),
        costs=weighter_costs(collected.observations, records),
        noise_errors=noise_errors(records),
        failed=collected.failed,
        unfitted=collected.unfitted,
    )


def group_ranges(timesteps: Sequence[float], groups: int) -> list[tuple[float, float]]:
    """First and last timestep of each group of sampling steps."""
    steps = len(timesteps)
    members = [[t for s, t in enumerate(timesteps) if step_group(s, steps, groups) == g] for g in range(groups)]
    return [(own[0], own[-1]) for own in members]


def as_data(summary: Summary) -> dict[str, Any]:
    """All numbers behind the pictures and tables; null where there is nothing to say."""
    kept = {f.name: getattr(summary, f.name) for f in dataclasses.fields(summary)}
    kept["arms"] = [_arm(arm) for arm in summary.arms]
    kept["noise_errors"] = [{"title": c.title, "columns": c.columns, "rows": c.rows} for c in summary.noise_errors]
    data: dict[str, Any] = plain({"schema": SCHEMA, **kept, "moments": MOMENTS})
    return data


def _arm(arm: Arm) -> dict[str, Any]:
    rows = [
        {
            "seed": row.seed,
            "units": len(row.units),
            "cosine": row.cosine,
            "alignment": row.alignment,
            "loss": row.loss,
            "seconds": row.observation.seconds,
        }
        for row in arm.rows
    ]
    return {**_identity(arm), "counterpart": arm.counterpart, "rows": rows}


def _identity(arm: Arm) -> dict[str, Any]:
    names = {"arm": arm.label, "method": arm.cell.name, "variant": arm.cell.variant, "bits": arm.bits, "phase": arm.phase}
    return names


def units_as_data(summary: Summary) -> dict[str, Any]:
    """The same findings unit by unit."""
    found = []
    for arm in summary.arms:
        for row in arm.rows:
            units = [
                {
                    "unit": unit.name,
                    **{name: unit.observed[name] for name in ("cosine", "norm", "loss", "count")},
                    "fit": unit.quality,
                }
                for unit in row.observation.units
            ]
            found.append({**_identity(arm), "seed": row.seed, "units": units})
    data: dict[str, Any] = plain({"schema": SCHEMA, "name": summary.name, "digest": summary.digest, "rows": found})
    return data


def plain(value: Any) -> Any:
    """What JSON can say: records and arrays as dictionaries and lists, floats rounded, NaN and infinity as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
