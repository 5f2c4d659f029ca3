"""The figures of a run, and how they become files for a paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ptqbench.report.chart import Chart, unique
from ptqbench.report.forest import forests
from ptqbench.report.gradients import gradients
from ptqbench.report.layers import layers
from ptqbench.report.series import quality, timesteps
from ptqbench.report.weights import weights
from ptqbench.results.record import RunRecord


def figures_of(
    run: RunRecord, beside: Path | None = None, left_out: Callable[[str], object] = lambda _: None
) -> dict[str, list[Chart]]:
    """The charts by the heading that they stand under; headings that a run has nothing for are absent. `beside` is the run's
    folder, where its diagnosis lies, if anywhere; `left_out` is told which one is not shown, and why."""
    groups = {
        "differences": forests(run),
        "quality": quality(run),
        "timesteps": timesteps(run),
        "layers": layers(run),
        "weights": weights(run),
        "gradients": gradients(run, beside, left_out),
    }
    named = iter(unique([chart for charts in groups.values() for chart in charts]))
    return {heading: [next(named) for _ in charts] for heading, charts in groups.items() if charts}


def write_figures(
    run: RunRecord, folder: Path, beside: Path | None = None, left_out: Callable[[str], object] = lambda _: None
) -> list[Path]:
    """Every chart as `<name>.svg`, `.pdf` and its numbers as `.csv` in `folder`, which is made; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for charts in figures_of(run, beside, left_out).values():
        for chart in charts:
            contents = {"svg": chart.svg().encode(), "pdf": chart.pdf(), "csv": chart.csv().encode()}
            for ending, content in contents.items():
                path = folder / f"{chart.name}.{ending}"
                path.write_bytes(content)
                written.append(path)
    return written
