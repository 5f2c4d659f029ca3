"""Gradients and losses by timestep group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptqbench.diagnostics.arms import Arm
from ptqbench.diagnostics.observer import MOMENTS
from ptqbench.diagnostics.pictures.style import (
    Picture,
    count_words,
    finish,
    legend_below,
    log_if_wide,
    panels,
    phase_file,
    save,
    spread_lines,
)
from ptqbench.diagnostics.statistics import mean_known, spreads
from ptqbench.diagnostics.summary import Summary
from ptqbench.report.gradients import CAPTION, cosine_maps, ticks_of_groups


def counts(arms: Sequence[Arm]) -> str:
    """Units and seeds of the arms, the most that any has."""
    return count_words(max(len(row.units) for arm in arms for row in arm.rows), max(len(arm.rows) for arm in arms))


def heat_map(summary: Summary, phase: str, folder: Path) -> Picture:
    """Mean cosine between the gradients of timestep groups, one row of maps for each arm (arXiv:2602.01289, figure 1a)."""
    arms = summary.of_phase(phase)
    figure = cosine_maps({arm.title: mean_known([row.cosine for row in arm.rows]) for arm in arms}, summary.groups)
    title = f"Cosine between gradients of timestep groups, phase {phase} ({counts(arms)})"
    return save(figure, title, folder, phase_file("cosine", phase), CAPTION.format(phase=phase))


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
