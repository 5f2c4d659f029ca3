"""The page: everything about a run in one HTML file that needs no script and no network."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ptqbench.report.figures import figures_of
from ptqbench.report.sections import command, facts, failure_table, ledger_tables, picture
from ptqbench.results.fit_tables import fit_tables, fitted_rows
from ptqbench.results.gallery import AMPLIFIED
from ptqbench.results.overview import overview
from ptqbench.results.record import RunRecord
from ptqbench.results.report import details
from ptqbench.version import __version__

HEADINGS = {
    "differences": "Differences to the baseline",
    "quality": "Quality against bytes",
    "timesteps": "Error by timestep",
}
SAMPLES = "samples.png"


def render(run: RunRecord, folder: Path | None = None) -> str:
    """The page of a run with comparisons; `folder` is where its picture of samples lies, if anywhere."""
    environment = Environment(
        loader=PackageLoader("ptqbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ledgers, left = ledger_tables(run)
    figures = [
        (heading, HEADINGS[heading], [(chart, Markup(chart.inline())) for chart in charts])
        for heading, charts in figures_of(run).items()
    ]
    return environment.get_template("page.html").render(
        run=run,
        main=overview(run, alone=False),
        details=details(run),
        fits=fit_tables(fitted_rows(run)),
        figures=figures,
        failures=failure_table(run),
        samples=picture(folder / SAMPLES) if folder else None,
        amplified=AMPLIFIED,
        ledgers=ledgers,
        ledgers_left=left,
        protocol=facts("What was held equal", run.protocol),
        environment=facts("Where it was computed", {**run.environment, "recipe's digest": run.digest}),
        methods={name: json.dumps(choices, indent=1) for name, choices in run.methods.items()},
        recipe=json.dumps(run.recipe, indent=1) if run.recipe else "",
        command=command(run),
        version=__version__,
    )
