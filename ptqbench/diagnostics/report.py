"""Writing a diagnosis down: data, pictures, page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ptqbench.diagnostics.observer import GradientObserver
from ptqbench.diagnostics.pictures import gradients, weights
from ptqbench.diagnostics.pictures.style import Picture, save
from ptqbench.diagnostics.summary import Summary, as_data, units_as_data
from ptqbench.diagnostics.tables import tables
from ptqbench.results import markdown
from ptqbench.results.tables import Table


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
    for chart in summary.noise_errors:
        found.append(save(chart.draw(), chart.title, folder, f"{chart.name}.png", chart.caption))
    if summary.costs:
        found.append(weights.cost(summary, folder))
    return found


def render(summary: Summary, tables: Sequence[Table], pictures: Sequence[Picture], observer: GradientObserver) -> str:
    """The page as markdown."""
    parts = [f"# Diagnostics: {summary.title}", _basis(summary, observer)]
    parts += [_table(table) for table in tables]
    parts += [f"![{picture.title}]({picture.file})\n\n{picture.caption}" for picture in pictures]
    if summary.unfitted:
        parts.append(f"Nothing is fitted in: {', '.join(summary.unfitted)}.")
    if summary.failed:
        parts += ["## Failed cells", "\n".join(f"* {name}: {' '.join(why.split())}" for name, why in summary.failed.items())]
    return "\n\n".join(parts) + "\n"


def _basis(summary: Summary, observer: GradientObserver) -> str:
    environment = summary.environment
    return (
        f"Recipe `{summary.name}`, digest `{summary.digest[:8]}`, {len(summary.timesteps)} sampling steps in "
        f"{len(summary.groups)} timestep groups, at most {observer.samples} calibration samples of each group. Gradients are "
        "those of the task loss without the rounding penalty, with respect to everything that the phase learns, at quantized "
        f"inputs with nothing dropped. ptqbench {environment['ptqbench']}, torch {environment['torch']}, "
        f"{environment['device']}. Numbers: [diagnostics.json](diagnostics.json), by unit [units.json](units.json)."
    )


def _table(table: Table) -> str:
    heads = [
        " ".join(filter(None, (column.heading, f"({column.remark})" if column.remark else ""))) for column in table.columns
    ]
    body = markdown.table(
        heads, [[cell.text for cell in row] for row in table.rows], [not column.text for column in table.columns]
    )
    return "\n\n".join([f"## {table.title}", body, *table.notes])


def write(summary: Summary, observer: GradientObserver, folder: Path) -> None:
    """diagnostics.json, units.json, a PNG for each topic, and diagnostics.md."""
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(as_data(summary), indent=1, allow_nan=False)
    (folder / "diagnostics.json").write_text(data + "\n", encoding="utf-8")
    units = json.dumps(units_as_data(summary), separators=(",", ":"), allow_nan=False)
    (folder / "units.json").write_text(units + "\n", encoding="utf-8")
    page = render(summary, tables(summary), draw(summary, folder), observer)
    (folder / "diagnostics.md").write_text(page, encoding="utf-8")
