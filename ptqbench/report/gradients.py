"""Cosines between the gradients of timestep groups as maps, of a run that `ptqbench diagnose` has looked into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import TypeAdapter, ValidationError

from ptqbench.diagnostics.statistics import Array, mean_known
from ptqbench.report.chart import WIDTH, Chart, file_name
from ptqbench.results.record import RunRecord

Groups = Sequence[tuple[float, float]]

DIAGNOSIS = Path("diagnosis") / "diagnostics.json"
"""Where in a run's folder its diagnosis is."""

SHOWN = ((0, "start"), (2, "middle"), (4, "end, before hardening"))
"""Moments of a fit that are drawn, of five."""

COLOUR_MAP = "RdBu_r"
CAPTION = (
    "Phase {phase}: cosine between the gradients of the mean task loss of two timestep groups, mean over units and calibration "
    "seeds, before the first iteration, half-way, and at the end before hardening. Red is positive, blue negative."
)
LIMIT = 1.6
"""Where the colours end: those of cosines are light enough for black numbers, at a contrast of 5 and more."""


@dataclass(frozen=True)
class Seed:
    """A calibration seed: cosines (M, G, G), means over units, at M moments of the fit; None where nothing is known."""

    cosine: list[list[list[float | None]]]


@dataclass(frozen=True)
class Arm:
    """A method at some bits in some variant, in one phase."""

    method: str
    variant: str
    bits: str
    phase: str
    rows: list[Seed]

    @property
    def cosine(self) -> Array:
        """Mean over calibration seeds, (M, G, G)."""
        return mean_known([np.asarray(row.cosine, dtype=np.float64) for row in self.rows])


@dataclass(frozen=True)
class Diagnosis:
    """What is read of a diagnosis: `groups` has the first and last timestep of each."""

    recipe: dict[str, Any]
    groups: list[tuple[float, float]]
    arms: list[Arm]

    @classmethod
    def of(cls, run: RunRecord, folder: Path, left_out: Callable[[str], object]) -> Diagnosis | None:
        """The diagnosis of a run's recipe: in the run's folder, or the latest beside it, where `ptqbench diagnose` writes.

        `left_out` is told why what lies in the folder is not shown.
        """
        beside = sorted(folder.absolute().parent.glob(f"{DIAGNOSIS.parent}-*/{DIAGNOSIS.name}"), reverse=True)
        for path in filter(Path.is_file, (folder / DIAGNOSIS, *beside)):
            try:
                found = TypeAdapter(cls).validate_json(path.read_bytes())
            except (OSError, ValidationError):
                reason = "it is no diagnosis"
            else:
                if _without_choice(found.recipe) == _without_choice(run.recipe):
                    return found
                reason = "it is of another recipe than the run"
            if path not in beside:
                left_out(f"{path}: {reason}")
        return None


def _without_choice(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A diagnosis may be of some of the run's cells."""
    return {**recipe, "sweep": {**recipe.get("sweep", {}), "only": None}}


def gradients(run: RunRecord, folder: Path | None, left_out: Callable[[str], object]) -> list[Chart]:
    """A chart for each phase that the run's diagnosis has seen; none without one (see `Diagnosis.of`)."""
    found = Diagnosis.of(run, folder, left_out) if folder else None
    return [_chart(phase, found) for phase in dict.fromkeys(arm.phase for arm in found.arms)] if found else []


def _chart(phase: str, found: Diagnosis) -> Chart:
    arms = [arm for arm in found.arms if arm.phase == phase]
    names = ticks_of_groups(found.groups)
    data = [
        (arm.method, arm.bits, arm.variant, moment, names[i], names[j], float(value))
        for arm in arms
        for m, moment in SHOWN
        for (i, j), value in np.ndenumerate(arm.cosine[m])
    ]
    shown = {" ".join(filter(None, (arm.method, arm.variant, arm.bits))): arm.cosine for arm in arms}
    columns = ("method", "bits", "variant", "moment", "timesteps", "other_timesteps", "cosine")
    title = f"Cosine between gradients of timestep groups, phase {phase}"
    return Chart(
        file_name("cosine", phase), title, CAPTION.format(phase=phase), columns, data, lambda: cosine_maps(shown, found.groups)
    )


def cosine_maps(arms: Mapping[str, Array], groups: Groups) -> Figure:
    """A row of maps for each arm, of its cosines (M, G, G) at the moments that are shown (arXiv:2602.01289, figure 1a)."""
    side = WIDTH / len(SHOWN) - 0.2
    figure = Figure(figsize=(WIDTH, len(arms) * side + 0.6), layout="constrained")
    places = figure.subplots(len(arms), len(SHOWN), squeeze=False)
    names, ticks = ticks_of_groups(groups), range(len(groups))
    for row, (title, cosine) in zip(places, arms.items(), strict=True):
        for axes, (moment, _) in zip(row, SHOWN, strict=True):
            _map(axes, cosine[moment])
            axes.set_xticks(ticks, [])
            axes.set_yticks(ticks, names if axes is row[0] else [], fontsize=7)
        row[0].set_ylabel(f"{title}\ntimesteps of group")
    for top, bottom, (_, words) in zip(places[0], places[-1], SHOWN, strict=True):
        top.set_title(words)
        bottom.set_xticks(ticks, names, rotation=45, ha="right", fontsize=7)
    return figure


def _map(axes: Axes, cosine: Array) -> None:
    size = len(cosine)
    axes.pcolormesh(np.arange(size), np.arange(size), cosine, vmin=-LIMIT, vmax=LIMIT, cmap=COLOUR_MAP)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    for (i, j), value in np.ndenumerate(cosine):
        text = f"{value:.2f}" if np.isfinite(value) else "?"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="black")


def ticks_of_groups(groups: Groups) -> list[str]:
    """The timesteps of each group."""
    return [f"{first:.4g}\N{EN DASH}{last:.4g}" if first != last else f"{first:.4g}" for first, last in groups]
