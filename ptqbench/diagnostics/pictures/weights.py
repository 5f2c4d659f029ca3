"""What weighters learned, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ptqbench.diagnostics.learned import BINS, TERMS, Learned
from ptqbench.diagnostics.pictures.style import (
    COLOURS,
    Picture,
    count_words,
    finish,
    legend_below,
    line_style,
    panels,
    phase_file,
    save,
)
from ptqbench.diagnostics.statistics import Band, Spread
from ptqbench.diagnostics.summary import Summary

LARGEST = 120.0
"""Area in points of the marker of the fullest bin."""


@dataclass(frozen=True)
class Shown:
    """The learned weights of an arm, its title, and the position of its style, the same as in other pictures."""

    title: str
    learned: Learned
    style: int

    @property
    def colour(self) -> str:
        return COLOURS[self.style % len(COLOURS)]


def of_phase(summary: Summary, phase: str) -> list[Shown]:
    """The learned weights of a phase's arms."""
    by_arm = {found.arm: found for found in summary.learned}
    arms = enumerate(summary.of_phase(phase))
    return [Shown(arm.title, by_arm[arm.label], i) for i, arm in arms if arm.label in by_arm]


def _counts(shown: Sequence[Shown]) -> str:
    rows = [one.learned.rows for one in shown]
    return count_words(max(len(row.units) for own in rows for row in own), max(len(own) for own in rows))


def by_timestep(summary: Summary, phase: str, folder: Path) -> Picture:
    """Mean learned weight at each timestep with its 10-90 % band."""
    shown = of_phase(summary, phase)
    figure, axes = panels(len(shown), sharey=True)
    t = np.asarray(summary.timesteps)
    for panel, one in zip(axes, shown, strict=True):
        band = one.learned.by_step
        known = np.isfinite(band.middle)
        panel.fill_between(t[known], band.low[known], band.high[known], alpha=0.25, color=one.colour, label="10 to 90 %")
        panel.plot(t[known], band.middle[known], label="mean", **line_style(one.style))
        panel.axhline(1.0, color="grey", linewidth=0.8)
        panel.invert_xaxis()
        finish(panel, one.title, "timestep t (sampling goes from left to right)", "weight (mean 1)")
        panel.legend(fontsize=8, frameon=False)
    caption = f"Phase {phase}: learned weights of the training samples by timestep, over all samples, units and seeds."
    return save(
        figure, f"Learned weights by timestep, phase {phase} ({_counts(shown)})", folder, phase_file("weights", phase), caption
    )


def against_agreement(summary: Summary, phase: str, folder: Path) -> Picture:
    """Average weight in bins of gradient agreement (arXiv:2602.01289, figure 2)."""
    shown = of_phase(summary, phase)
    figure, axes = panels(len(shown))
    for panel, one in zip(axes, shown, strict=True):
        bins = one.learned.agreement
        centres = (bins.edges[1:] + bins.edges[:-1]) / 2
        full = bins.count > 0
        area = 4 + LARGEST * bins.count[full] / bins.count.max()
        panel.scatter(centres[full], bins.weight[full], s=area, alpha=0.7, color=one.colour, linewidths=0)
        panel.axhline(1.0, color="grey", linewidth=0.8)
        finish(
            panel,
            f"{one.title}\nrank correlation {_spread(one.learned.rank)}",
            "cosine with validation gradient",
            "mean weight",
        )
    samples = int(max(one.learned.agreement.count.sum() for one in shown))
    caption = (
        f"Phase {phase}: average learned weight in {BINS} bins of the cosine between a training sample's own gradient and "
        "the gradient of the validation loss, at the end of the fit. Areas show how many samples a bin has. The rank "
        "correlation is taken in each unit and averaged; its interval is over calibration seeds."
    )
    title = f"Learned weight against gradient agreement, phase {phase} ({samples} samples, {_counts(shown)})"
    return save(figure, title, folder, phase_file("agreement", phase), caption)


def _spread(found: Spread) -> str:
    if not np.isfinite(found.low):
        return f"{found.mean:.2f}"
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"


def meta_terms(summary: Summary, phase: str, folder: Path) -> Picture:
    """Terms of the meta objective over updates."""
    shown = [one for one in of_phase(summary, phase) if one.learned.terms]
    names = [name for name in TERMS if any(name in one.learned.terms for one in shown)]
    figure, axes = panels(len(names))
    for panel, name in zip(axes, names, strict=True):
        for one in shown:
            if name in one.learned.terms:
                _band(panel, one.learned.terms[name], one)
        panel.axhline(0.0, color="grey", linewidth=0.8)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        finish(panel, f"{name} term", "update of the weights", "relative to its start")
    legend_below(figure, axes[0])
    caption = (
        f"Phase {phase}: terms of the weighter's meta objective at each update, divided by their mean absolute value in the "
        "first tenth of the unit's updates; median and quartiles over units and seeds."
    )
    return save(
        figure,
        f"Meta objective while weights are learned, phase {phase} ({_counts(shown)})",
        folder,
        phase_file("meta", phase),
        caption,
    )


def _band(panel: Axes, band: Band, one: Shown) -> None:
    x = np.arange(1, len(band.middle) + 1)
    panel.fill_between(x, band.low, band.high, alpha=0.2, color=one.colour)
    panel.plot(x, band.middle, label=one.title, **line_style(one.style))


def effective_size(summary: Summary, phase: str, folder: Path) -> Picture:
    """Effective sample size by unit."""
    shown = of_phase(summary, phase)
    figure, (panel,) = panels(1)
    for i, one in enumerate(shown):
        values = np.concatenate([row.effective for row in one.learned.rows])
        panel.boxplot(values, positions=[i], widths=0.4, showfliers=False, medianprops={"color": "black"})
        # Side by side in the order of the units, so that equal values do not hide each other.
        panel.scatter(i + np.linspace(-0.2, 0.2, values.size), values, s=10, color=one.colour, alpha=0.7)
    panel.set_xticks(range(len(shown)), [one.title for one in shown], rotation=15, ha="right", fontsize=8)
    panel.set_xlim(-1, len(shown))
    panel.set_ylim(0, 1.05)
    finish(panel, "", "", "effective sample size / samples")
    caption = (
        f"Phase {phase}: effective sample size of the learned weights, (sum w)\N{SUPERSCRIPT TWO} / sum "
        "w\N{SUPERSCRIPT TWO}, as a share of the training samples; a point for each unit and seed, in the order of the units."
    )
    title = f"Effective sample size, phase {phase} ({_counts(shown)})"
    return save(figure, title, folder, phase_file("effective-size", phase), caption)


def cost(summary: Summary, folder: Path) -> Picture:
    """Seconds of fitting relative to uniform weights."""
    figure, (panel,) = panels(1, height=1.2 + 0.35 * len(summary.costs))
    for i, found in enumerate(summary.costs):
        half = np.nan_to_num(found.ratio.high - found.ratio.mean)
        panel.errorbar(found.ratio.mean, i, xerr=half if half else None, capsize=3, **line_style(i))
        panel.scatter(found.ratios, [i] * len(found.ratios), s=12, color="grey", zorder=3)
    panel.set_yticks(range(len(summary.costs)), [found.title for found in summary.costs], fontsize=8)
    panel.set_ylim(-0.6, len(summary.costs) - 0.4)
    panel.axvline(1.0, color="grey", linewidth=0.8)
    finish(panel, "", "seconds of fitting / the same with uniform weights", "")
    seeds = max(len(found.seeds) for found in summary.costs)
    caption = (
        "Seconds of fitting all units relative to the same method with uniform weights; grey points are calibration seeds, "
        "bars 95 % intervals over them."
    )
    return save(figure, f"Cost of the weighter ({seeds} seed{'s' * (seeds != 1)})", folder, "cost.png", caption)
