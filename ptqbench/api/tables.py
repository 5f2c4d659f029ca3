"""Records as a table: a pandas DataFrame where pandas is installed, else a list of dicts."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from ptqbench.results.fits import FitQuality, StageLosses, Weighting


def table(rows: Iterable[Mapping[str, Any]]) -> Any:
    """The rows, which all have the same keys, as a DataFrame with a column for each key; without pandas as a list of dicts."""
    records = [dict(row) for row in rows]
    if importlib.util.find_spec("pandas") is None:
        return records
    return importlib.import_module("pandas").DataFrame(records)


def fit_row(fit: FitQuality) -> dict[str, Any]:
    """What a unit of a phase came to, flat; what is not known is None."""
    held_out, weighter = fit.held_out or StageLosses(), fit.weighter or Weighting()
    return {
        "phase": fit.phase,
        "unit": fit.unit,
        "iterations": fit.iterations,
        **dataclasses.asdict(fit.training),
        **{f"held_out_{stage}": value for stage, value in dataclasses.asdict(held_out).items()},
        "variables": fit.variables,
        "undecided": fit.undecided,
        "effective": weighter.effective,
        "touches": weighter.touches,
        "updates": weighter.updates,
    }


def ledger_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a bit ledger, flat: a layer, or a site of an attention (whose `site` is not ""). 32 bits are none."""
    weight, activation = row["weight"], row["activation"]
    return {
        "layer": row["name"],
        "kind": row["kind"],
        "site": row.get("site", ""),
        "weight_bits": weight["bits"] if weight else 32,
        "weight_per": weight["per"] if weight else "",
        "activation_bits": activation["bits"] if activation else 32,
        "activation_per": activation["per"] if activation else "",
        "activation_steps": activation["steps"] if activation else 1,
        "partitions": "+".join(map(str, row["partitions"])),
        "macs": row["macs"],
        "weights": row.get("weights", 0),
        "weight_bytes": row.get("weight_bytes", 0),
        "activation_bytes": row.get("activation_bytes", 0),
        "why": "; ".join(row["why"]),
    }
