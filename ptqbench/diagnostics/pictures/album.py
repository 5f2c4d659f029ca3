"""All pictures of a diagnosis."""

from __future__ import annotations

from pathlib import Path

from ptqbench.diagnostics.pictures import gradients, weights
from ptqbench.diagnostics.pictures.style import Picture
from ptqbench.diagnostics.summary import Summary


def draw(summary: Summary, folder: Path) -> list[Picture]:
    """Draw whatever there is something to show of, as PNG files in `folder`."""
    found = []
    for phase in summary.phases:
        found += [make(summary, phase, folder) for make in (gradients.heat_map, gradients.progress, gradients.loss_by_group)]
        learned = weights.of_phase(summary, phase)
        if learned:
            found += [make(summary, phase, folder) for make in (weights.by_timestep, weights.against_agreement)]
            found.append(weights.effective_size(summary, phase, folder))
        if any(one.learned.terms for one in learned):
            found.append(weights.meta_terms(summary, phase, folder))
    if summary.noise_errors:
        found.append(gradients.noise_error(summary, folder))
    if summary.costs:
        found.append(weights.cost(summary, folder))
    return found
