"""Gradients and losses by timestep group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ptqbench.diagnostics.arms import Arm
from ptqbench.diagnostics.observer import MOMENTS
from ptqbench.diagnostics.pictures.style import (
    Picture,
    count_words,
    finish,
    legend_below,
    line_style,
    log_if_wide,
    panels,
    phase_file,
    save,
    spread_lines,
    ticks_of_groups,
)
from ptqbench.diagnostics.statistics import Array, mean_known, spreads
from ptqbench.diagnostics.summary import Summary

SHOWN = ((0, "start"), (2, "middle"), (4, "end, before hardening"))
"""Moments of the heat map."""

COLOUR_MAP = "RdBu_r"
PALE = 0.6
"""Cells beyond this are dark, and their numbers white."""


def counts(arms: Sequence[Arm]) -> str:
    """Units and seeds of the arms, the most that any has."""
    return count_words(max(len(row.units) for arm in arms for row in arm.rows), max(len(arm.rows) for arm in arms))


def heat_map(summary: Summary, phase: str, folder: Path) -> Picture:
    """Mean cosine between the gradients of timestep groups, one row of maps for each arm (arXiv:2602.01289, figure 1a)."""
    arms = summary.of_phase(phase)
    side = 2.2 if len(summary.groups) <= 6 else 3.2
    figure = Figure(figsize=(len(SHOWN) * side + 2.0, len(arms) * side + 1.0), layout="constrained")
    axes = figure.subplots(len(arms), len(SHOWN), squeeze=False)
    for i, arm in enumerate(arms):
        mean = mean_known([row.cosine for row in arm.rows])
        for j, (moment, words) in enumerate(SHOWN):
            shown = _map(axes[i, j], mean[moment], summary.groups, bottom=i == len(arms) - 1, left=j == 0)
            if i == 0:
                axes[i, j].set_title(words, fontsize=10)
        axes[i, 0].set_ylabel(f"{arm.title}\ntimesteps of group", fontsize=9)
    figure.colorbar(shown, ax=axes, label="cosine of gradients", shrink=min(1.0, 2.0 / len(arms)), pad=0.02)
    caption = (
        f"Phase {phase}: cosine between the gradients of the mean task loss of two timestep groups, mean over units and "
        "calibration seeds, before the first iteration, half-way, and at the end before hardening."
    )
    return save(
        figure,
        f"Cosine between gradients of timestep groups, phase {phase} ({counts(arms)})",
        folder,
        phase_file("cosine", phase),
        caption,
    )


def _map(axes: Axes, cosine: Array, groups: Sequence[tuple[int, int]], *, bottom: bool, left: bool) -> AxesImage:
    shown = axes.imshow(cosine, vmin=-1, vmax=1, cmap=COLOUR_MAP)
    for (i, j), value in np.ndenumerate(cosine):
        text = f"{value:.2f}" if np.isfinite(value) else "?"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if abs(value) > PALE else "black")
    places, names = range(len(groups)), ticks_of_groups(groups)
    axes.set_xticks(places, names if bottom else [""] * len(groups), rotation=45, ha="right", fontsize=7)
    axes.set_yticks(places, names if left else [""] * len(groups), fontsize=7)
    return shown


def progress(summary: Summary, phase: str, folder: Path) -> Picture:
    """Alignment of timestep groups and their loss while units are fitted."""
    arms = summary.of_phase(phase)
    figure, (left, right) = panels(2)
    aligned = {i: (arm.title, summary.alignment(arm.label).value) for i, arm in enumerate(arms)}
    losses = {i: (arm.title, spreads([mean_known(row.loss, axis=1) for row in arm.rows])) for i, arm in enumerate(arms)}
    spread_lines(left, MOMENTS, aligned)
    spread_lines(right, MOMENTS, losses)
    finish(left, "gradient alignment", "progress of a unit's fit", "mean cosine of different groups")
    finish(right, "task loss", "progress of a unit's fit", "mean loss over groups and units")
    log_if_wide(right)
    legend_below(figure, left)
    caption = (
        f"Phase {phase}: mean cosine between different timestep groups and mean task loss while a unit is fitted; bars are "
        "95 % intervals over calibration seeds. Rounding starts soft, at the full-precision weights, so the loss may rise."
    )
    return save(
        figure,
        f"Alignment and loss during the fit, phase {phase} ({counts(arms)})",
        folder,
        phase_file("progress", phase),
        caption,
    )


def loss_by_group(summary: Summary, phase: str, folder: Path) -> Picture:
    """Final loss of each timestep group, also relative to the counterpart."""
    arms = summary.of_phase(phase)
    ratios = {i: (arm.title, summary.alignment(arm.label).loss_ratio) for i, arm in enumerate(arms)}
    compared = {i: ratio for i, ratio in ratios.items() if ratio[1]}
    figure, axes = panels(2 if compared else 1)
    places, names = range(len(summary.groups)), ticks_of_groups(summary.groups)
    spread_lines(axes[0], places, {i: (arm.title, spreads([row.loss[-1] for row in arm.rows])) for i, arm in enumerate(arms)})
    finish(axes[0], "task loss at the end", "timesteps of group", "mean loss over units")
    log_if_wide(axes[0])
    if compared:
        spread_lines(axes[1], places, compared)
        finish(axes[1], "relative to uniform weights", "timesteps of group", "loss ratio (geometric mean over units)")
        axes[1].axhline(1.0, color="grey", linewidth=0.8)
    for each in axes:
        each.set_xticks(places, names, rotation=30, ha="right", fontsize=8)
    legend_below(figure, axes[0])
    caption = (
        f"Phase {phase}: task loss by timestep group at the end of the fit, before hardening; beside it the ratio to the same "
        "method with uniform weights. Bars are 95 % intervals over calibration seeds."
    )
    return save(figure, f"Loss by timestep group, phase {phase} ({counts(arms)})", folder, phase_file("loss", phase), caption)


def noise_error(summary: Summary, folder: Path) -> Picture:
    """Error of the finished networks' noise prediction by timestep, one panel for each metric."""
    names = list(dict.fromkeys(found.metric for found in summary.noise_errors))
    figure, axes = panels(len(names), columns=2)
    for panel, name in zip(axes, names, strict=True):
        for i, found in enumerate(x for x in summary.noise_errors if x.metric == name):
            panel.plot(found.t, found.error, label=found.title, **line_style(i))
        finish(panel, name, "timestep t (sampling goes from left to right)", "mean squared error")
        log_if_wide(panel)
        panel.invert_xaxis()
    legend_below(figure, axes[0])
    seeds = max(len(found.seeds) for found in summary.noise_errors)
    caption = (
        "Squared difference to the full-precision noise prediction on held-out trajectories, from the records of finished "
        "cells, mean over calibration seeds."
    )
    title = f"Noise-prediction error by timestep (finished cells, {seeds} seed{'s' * (seeds != 1)})"
    return save(figure, title, folder, "noise-error.png", caption)
