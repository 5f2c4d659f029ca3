"""The figures of a run, and how they become files for a paper."""

from __future__ import annotations

from pathlib import Path

from ptqbench.report.chart import Chart, unique
from ptqbench.report.forest import forests
from ptqbench.report.series import quality, timesteps
from ptqbench.results.record import RunRecord


def figures_of(run: RunRecord) -> dict[str, list[Chart]]:
    """The charts by the heading that they stand under; headings that a run has nothing for are absent."""
    groups = {"differences": forests(run), "quality": quality(run), "timesteps": timesteps(run)}
    named = iter(unique([chart for charts in groups.values() for chart in charts]))
    return {heading: [next(named) for _ in charts] for heading, charts in groups.items() if charts}


def write_figures(run: RunRecord, folder: Path) -> list[Path]:
    """Every chart as `<name>.svg`, `.pdf` and its numbers as `.csv` in `folder`, which is made; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for charts in figures_of(run).values():
        for chart in charts:
            contents = {"svg": chart.svg().encode(), "pdf": chart.pdf(), "csv": chart.csv().encode()}
            for ending, content in contents.items():
                path = folder / f"{chart.name}.{ending}"
                path.write_bytes(content)
                written.append(path)
    return written
