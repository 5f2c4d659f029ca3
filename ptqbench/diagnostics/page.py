"""diagnostics.md: the tables and the pictures, with what they rest on."""

from __future__ import annotations

from collections.abc import Sequence

from ptqbench.diagnostics.observer import GradientObserver
from ptqbench.diagnostics.pictures.style import Picture
from ptqbench.diagnostics.summary import Summary
from ptqbench.results import markdown
from ptqbench.results.tables import Table


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
