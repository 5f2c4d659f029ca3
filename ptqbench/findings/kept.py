"""Results kept in a repository: records without what only a run's own folder needs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptqbench.errors import UserError
from ptqbench.findings.document import Document
from ptqbench.results.record import RunRecord


def load_records(document: Document, folder: Path) -> dict[str, RunRecord]:
    """The record of every run. Raises `UserError` naming all that are missing."""
    paths = {run.name: folder / document.results / f"{run.name}.json" for run in document.runs}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(f"no kept results: {', '.join(missing)}", "make them with `ptqbench findings FILE --run`")
    return {name: RunRecord.load(path) for name, path in paths.items()}


def save_record(record: RunRecord, path: Path) -> None:
    """Write a record without its layer tables and lists by step, one cell a line, so that a repository stays light."""
    data = dataclasses.asdict(record)
    for cell in data["cells"]:
        cell["ledger"] = []
        for number in cell["metrics"].values():
            number["detail"] = {}
            # Nine digits are more than any interval resolves.
            number["replicates"] = [float(f"{x:.9g}") for x in number["replicates"]]
    data["comparisons"] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_lines(data), encoding="utf-8")


def _lines(data: Mapping[str, Any]) -> str:
    """JSON with one line for each cell and each other entry."""
    entries = []
    for key, value in data.items():
        if key == "cells":
            cells = ",\n".join("  " + json.dumps(cell, separators=(",", ":")) for cell in value)
            entries.append(f' "cells": [\n{cells}\n ]')
        else:
            entries.append(f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}")
    return "{\n" + ",\n".join(entries) + "\n}\n"
