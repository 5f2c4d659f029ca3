"""ONNX with Q/DQ: a graph for each range of sampling steps with the same grids, checked against the simulation."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ptqbench.errors import CellFailedError, UserError
from ptqbench.files import locked
from ptqbench.roles.exporter import Deployable, Exporter
from ptqbench_deployment import OnnxOptions
from ptqbench_deployment.checks import Checks
from ptqbench_deployment.extras import require
from ptqbench_deployment.graph import write_graph
from ptqbench_deployment.outputs import affordable, output_grids
from ptqbench_deployment.qdq import CODE_BITS, Rewritten, rewrite, step_sets

MANIFEST = "export.json"

MARGIN = 3.0
"""dB of the agreement that is asked for: half of the error is left to the engine's own arithmetic when outputs get grids."""

GRAPHS = re.compile(r"(model|steps_\d+-\d+)\.onnx(\.data)?")
"""Names of the files of an export beside its manifest."""


class OnnxExporter(Exporter):
    """See the README of this plugin."""

    options: OnnxOptions

    def write(self, cell: Deployable, folder: Path) -> Sequence[str]:
        """One file, or one for each range of sampling steps; `export.json` says which, and what each layer became.

        They take the place of an earlier export only once they are checked.
        """
        require("onnx", "onnxscript", "onnxruntime", extra="onnx")
        sets = step_sets(cell.quantized)
        if len(sets) > self.options.graphs:
            raise UserError(
                f"grids change {len(sets) - 1} times while sampling: {len(sets)} graphs with all weights in each",
                f"ONNX has no grid that depends on the step; allow as many with graphs = {len(sets)}, or use safetensors",
            )
        with _beside(folder) as beside:
            sentences = self._write(cell, sets, beside)
            _swap(beside, folder)
        return sentences

    def _write(self, cell: Deployable, sets: Sequence[range], folder: Path) -> list[str]:
        """Raises `CellFailedError` for graphs that compute something else than the simulation."""
        rows, files, least = cell.held_out, [], self.options.least_snr
        checks = Checks()
        for steps in sets:
            found = output_grids(cell, steps) if self.options.outputs else {}
            grids = affordable(cell, found, steps, least + MARGIN) if found else found
            made = rewrite(cell.quantized, steps.start, grids)
            name = "model.onnx" if len(sets) == 1 else f"steps_{steps.start:03}-{steps.stop - 1:03}.onnx"
            write_graph(cell.call, made.module, rows.rows(slice(0, 2)), folder / name)
            files.append({"file": name, "steps": [steps.start, steps.stop - 1]})
            mine = rows.rows((rows.step >= steps.start) & (rows.step < steps.stop))
            if not len(mine):
                raise CellFailedError(f"no held-out state lies at the steps {steps.start} to {steps.stop - 1} of {name}")
            said = {name: grid for name, grid in grids.items() if name in made.outputs}
            checks.add(cell, folder / name, mine, said)
        checks.refuse(least)
        (folder / MANIFEST).write_text(_manifest(cell, made, files, checks), encoding="utf-8")
        return [*checks.sentences(), *_sentences(cell, made)]


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A hidden folder in `folder`, of one export after the other; what killed ones left goes first."""
    lock = folder / ".export.lock"
    with locked(lock):
        try:
            for left in folder.glob(".export-*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as beside:
                yield Path(beside)
        finally:
            with suppress(OSError):  # where files that are open cannot go
                lock.unlink()  # who waits for it makes another: filelock looks whether the file that it got is still there


def _swap(new: Path, folder: Path) -> None:
    """Put the files of `new` in place of the export in `folder`; its manifest goes first and comes last."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in folder.iterdir():
        if GRAPHS.fullmatch(path.name) and not (new / path.name).exists():
            path.unlink()
    for path in sorted(new.iterdir(), key=lambda path: path.name == MANIFEST):
        path.replace(folder / path.name)


def _manifest(cell: Deployable, made: Rewritten, files: list[dict[str, Any]], checks: Checks) -> str:
    data = {
        "graphs": files,
        "agreement with the simulation": vars(checks.agreement),
        "agreement as written": vars(checks.as_written),
        "the simulation's with itself": vars(checks.repeated),
        "weights of fewer bits in int8": dict(made.narrow),
        "Q/DQ": list(made.integer),
        "output grids": list(made.outputs),
        "in floating point": dict(made.spelled),
    }
    return json.dumps(data, indent=1) + "\n"


def _sentences(cell: Deployable, made: Rewritten) -> list[str]:
    macs = {layer.name: layer.macs for layer in cell.probe.layers}
    share = sum(macs[name] for name in made.integer) / max(1, sum(macs.values()))
    lines = [f"Q/DQ stand round {len(made.integer)} of {len(macs)} layers, which do {share:.1%} of the layers' multiplications"]
    if made.narrow:
        bits = ", ".join(map(str, sorted(set(made.narrow.values()))))
        lines.append(f"{len(made.narrow)} weights of {bits} bits are int8 codes, {CODE_BITS} bits each")
    if made.outputs:
        share = sum(macs[name] for name in made.outputs) / max(1, sum(macs.values()))
        lines.append(
            f"{len(made.outputs)} convolutions, {share:.1%} of the multiplications, have grids for what they give as well"
        )
    if made.apart:
        lines.append(
            f"{len(made.apart)} convolutions got none: zero points of their weights differ by channel, which engines "
            "do not have; weights.symmetric = true has none"
        )
    if made.spelled:
        reasons = "; ".join(dict.fromkeys(made.spelled.values()))
        lines.append(f"{len(made.spelled)} quantized layers compute in floating point ({reasons})")
    return lines
