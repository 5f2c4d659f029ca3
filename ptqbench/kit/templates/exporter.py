"""The scales of a quantized denoiser's weights as a text file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.exporter import Deployable, Exporter


class ExampleOptions(Options):
    """What a user may set."""

    digits: int = Field(6, ge=1, description="significant digits of scales")


class Example(Exporter):
    """A line for each layer: its name, and the scale of each row of its weight."""

    options: ExampleOptions

    def write(self, cell: Deployable, folder: Path) -> Sequence[str]:
        """`cell.quantized.export()` has codes, scales and zero points; `cell.held_out` is there to check what was written."""
        lines = []
        for name, scale in cell.quantized.export().items():
            if "|w." in name and name.endswith(".scale"):
                lines.append(" ".join([name, *(f"{x:.{self.options.digits}g}" for x in scale.flatten().tolist())]))
        (folder / "scales.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [f"{len(lines)} scales; codes are not written"]


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("exporter", "example", "scales as text", Example, ExampleOptions)]
