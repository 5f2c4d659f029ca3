"""Whether a file computes what the simulation computes, and if not, whose doing that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptqbench.deployment.agreement import Agreement
from ptqbench.errors import CellFailedError
from ptqbench.roles.exporter import Deployable, Inputs
from ptqbench_deployment.graph import OUTPUT, feeds
from ptqbench_deployment.outputs import OutputGrids, simulated_with

EXACT = "session.x64quantprecision"
"""Without it onnxruntime's products of uint8 by int8 add pairs in 16 bits, which overflow, on x86 processors that have AVX2 or
AVX-512 and no VNNI. Elsewhere it changes nothing."""

CLOSE = 3.0
"""dB above what is asked for within which the simulation's agreement with itself explains why that was missed."""


@dataclass
class Checks:
    """Outputs on held-out states, a list for each: the simulation's, the same with output grids, and onnxruntime's from the
    file, operator by operator as it is written, and with all optimisations, which fuse operators into kernels on integers.
    `alone` is the simulation once more, a row at a time: sums in another order, and nothing else."""

    simulated: list[Tensor] = field(default_factory=list)
    with_outputs: list[Tensor] = field(default_factory=list)
    plain: list[Tensor] = field(default_factory=list)
    fused: list[Tensor] = field(default_factory=list)
    alone: list[Tensor] = field(default_factory=list)

    def add(self, cell: Deployable, path: Path, given: Inputs, grids: OutputGrids) -> None:
        """Rows at steps that the file is for."""
        wanted = cell.simulated(given).cpu()
        self.simulated.append(wanted)
        self.with_outputs.append(simulated_with(cell, grids, given).cpu() if grids else wanted)
        self.plain.append(run_file(path, given, optimised=False))
        self.fused.append(run_file(path, given))
        self.alone.append(torch.cat([cell.simulated(given.rows(slice(i, i + 1))) for i in range(len(given))]).cpu())

    @property
    def agreement(self) -> Agreement:
        """Of what runs with the cell's numbers."""
        return Agreement.of_graphs(self.fused, self.simulated)

    @property
    def as_written(self) -> Agreement:
        """Of what the file says, output grids being part of it."""
        return Agreement.of_graphs(self.plain, self.with_outputs)

    @property
    def rounding(self) -> Agreement:
        """Of the simulation with output grids with itself without: infinite where there are none."""
        return Agreement.of_graphs(self.with_outputs, self.simulated)

    @property
    def repeated(self) -> Agreement:
        """Of the simulation with itself: no program can be asked to agree better."""
        return Agreement.of_graphs(self.alone, self.simulated)

    def refuse(self, least: float) -> None:
        """Raises `CellFailedError` where what runs is not what was simulated."""
        if self.agreement.snr >= least:
            return
        hint = "another onnxruntime may do; safetensors gives the simulation bit for bit"
        if self.rounding.snr < least:
            hint = f"the rounding of outputs alone comes to {self.rounding.snr:.1f} dB: leave outputs out"
        elif self.as_written.snr >= least:
            hint = (
                f"the file is right, it agrees to {self.as_written.snr:.1f} dB operator by operator; what differs are kernels "
                "that onnxruntime fuses on this processor, and another may do"
            )
        elif self.repeated.snr < least + CLOSE:
            hint = (
                f"sums in another order move values to other codes: the simulation itself, a row at a time, comes to "
                f"{self.repeated.snr:.1f} dB; take least_snr below that"
            )
        raise CellFailedError(
            f"the graph computes something else than the simulation: {self.agreement}; it takes {least:g} dB", hint
        )

    def sentences(self) -> list[str]:
        """For whoever exports."""
        lines = [
            f"the graph agrees with the simulation: {self.agreement}",
            f"operator by operator, without fused kernels, it comes to {self.as_written.snr:.1f} dB; the simulation with "
            f"itself, a row at a time, to {self.repeated.snr:.1f} dB",
        ]
        if self.rounding.snr < float("inf"):
            lines.append(
                f"grids of outputs, which the simulation does not have, come to {self.rounding.snr:.1f} dB by themselves"
            )
        return lines


def open_session(path: Path, options: Any) -> Any:
    """onnxruntime on the CPU, with exact products."""
    import onnxruntime

    options.log_severity_level = 3
    options.add_session_config_entry(EXACT, "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_file(path: Path, given: Inputs, optimised: bool = True) -> Tensor:
    """What onnxruntime computes from a file, with all optimisations or none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(path, options)
    (found,) = session.run([OUTPUT], feeds(given))
    return torch.from_numpy(found)
