"""A line of plain text for each cell."""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.results.record import RunRecord
from ptqbench.roles.reporter import Reporter


class ExampleOptions(Options):
    """What a recipe may set."""

    digits: int = Field(4, ge=1, description="significant digits of numbers")


class Example(Reporter):
    """Name, and either all numbers or why there are none."""

    options: ExampleOptions
    suffix = ".txt"

    def render(self, run: RunRecord, *, width: int | None = None) -> str:
        """`width` is the terminal's, where there is one; text for a file has none."""
        lines = [run.title or run.name]
        for cell in run.cells:
            numbers = [f"{name} {number.value:.{self.options.digits}g}" for name, number in cell.metrics.items()]
            lines.append(f"{cell.id}: {', '.join(numbers) if cell.status == 'ok' else cell.reason.splitlines()[0]}")
        return "\n".join(line[:width] for line in lines) + "\n"


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("reporter", "example", "a line for each cell", Example, ExampleOptions)]
