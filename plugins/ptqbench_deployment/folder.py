"""The folder that `ptqbench.load` puts together again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptqbench.roles.exporter import Deployable, Exporter


class SafetensorsExporter(Exporter):
    """Codes, scales and zero points as safetensors, everything else as JSON: what `Quantized.save` writes."""

    def write(self, cell: Deployable, folder: Path) -> Sequence[str]:
        """What stays in floating point is in neither file."""
        cell.save(folder)
        return ["what stays in floating point is not in the folder: ptqbench.load takes it from the full-precision weights"]
