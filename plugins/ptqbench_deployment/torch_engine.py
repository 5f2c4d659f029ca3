"""torch, eagerly: what simulating costs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ptqbench.roles.engine import Engine, Program
from ptqbench.roles.exporter import Deployable, Inputs


class TorchEngine(Engine):
    """Full precision and the simulation, which rounds in floating point: nothing is executed on integers."""

    version = f"torch {torch.__version__}"

    def load(self, cell: Deployable, quantized: bool, folder: Path, threads: int) -> Program:
        """Threads are those of the process."""
        evaluate = cell.simulated if quantized else cell.in_full_precision

        def run(given: Inputs) -> Tensor:
            # Rounding in place, as sampling does it.
            with torch.inference_mode():
                return evaluate(given).cpu()

        return Program(run, 0.0)
