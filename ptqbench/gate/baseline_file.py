"""A baseline as a TOML file that reads well in a pull request: written here, read by tomllib."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptqbench.errors import UserError, why_unreadable
from ptqbench.gate.snapshot import Change, Entry, Measure, Scalar, Snapshot
from ptqbench.recipe.toml_text import string, value_text

SCHEMA = 1

HEADER = """\
# What `ptqbench check` compares runs of this recipe with. Written by ptqbench; a band may be changed by hand, and is
# then kept. Everything else changes with --update (never to the worse) or --replace --reason TEXT. See docs/ci.md.
"""


def save(path: Path, baseline: Snapshot) -> None:
    """Write a baseline; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(baseline), encoding="utf-8")


def load(path: Path) -> Snapshot:
    """Read a baseline. Raises `UserError` for anything that `save` would not have written."""
    try:
        return loads(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read: {why_unreadable(error)}", "name a file that `ptqbench check --update` wrote"
        ) from error


def dumps(baseline: Snapshot) -> str:
    """The text of a baseline; equal baselines give equal texts."""
    return HEADER + "\n".join(_lines(baseline)) + "\n"


def loads(text: str, where: str = "baseline") -> Snapshot:
    """Parse what `dumps` wrote, with bands that somebody may have changed."""
    try:
        data = tomllib.loads(text)
        if data["schema"] != SCHEMA:
            raise UserError(f"{where} has schema {data['schema']}, this version reads {SCHEMA}", "make it anew")
        return Snapshot(
            recipe=data["recipe"],
            digest=data["digest"],
            created=data["created"],
            image_seed=data.get("image_seed"),
            environment=dict(data.get("environment", {})),
            cells={name: _read_entry(entry) for name, entry in data.get("cells", {}).items()},
            history=tuple(Change(**change) for change in data.get("history", ())),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{where} is not a baseline: {why_unreadable(error)}",
            "undo the change by hand, or write the file anew with --replace --reason",
        ) from error


def _lines(baseline: Snapshot) -> Iterator[str]:
    yield from _pairs(schema=SCHEMA, recipe=baseline.recipe, digest=baseline.digest, created=baseline.created)
    if baseline.image_seed is not None:
        yield from _pairs(image_seed=baseline.image_seed)
    yield from ("", "[environment]")
    yield from _pairs(**baseline.environment)
    for change in baseline.history:
        yield from ("", "[[history]]")
        yield from _pairs(date=change.date, reason=change.reason)
    for name, entry in baseline.cells.items():
        yield from _entry(name, entry)


def _entry(name: str, entry: Entry) -> Iterator[str]:
    yield from ("", f"[cells.{string(name)}]")
    yield from _pairs(bits=entry.bits, ledger=entry.ledger, weight_bytes=entry.weight_bytes)
    if entry.state:
        yield from _pairs(state=entry.state)
    yield f"seeds = {list(entry.seeds)}"
    yield from _pairs(seconds=entry.seconds, peak_mib=entry.peak_mib)
    for metric, measure in entry.metrics.items():
        yield from ("", f"[cells.{string(name)}.metrics.{string(metric)}]")
        yield from _measure(measure)


def _measure(measure: Measure) -> Iterator[str]:
    yield from _pairs(better=measure.better, value=measure.value, low=measure.low, high=measure.high, n=measure.n)
    if measure.spread is not None:
        yield from _pairs(spread=measure.spread)
    yield from _pairs(band=measure.band, protocol=measure.protocol)
    for key, values in (("by_seed", measure.by_seed), ("replicates", measure.replicates)):
        if values:
            # Long on purpose: a pull request shows one changed line for all of them.
            yield f"{key} = {value_text(values)}"


def _pairs(**values: Scalar) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key if key.replace('_', '').isalnum() and key.isascii() else string(key)} = {value_text(value)}"


def _read_entry(data: Mapping[str, Any]) -> Entry:
    rest = {key: value for key, value in data.items() if key not in ("seeds", "metrics")}
    metrics = {name: _read_measure(measure) for name, measure in data.get("metrics", {}).items()}
    return Entry(seeds=tuple(data["seeds"]), metrics=metrics, **rest)


def _read_measure(data: Mapping[str, Any]) -> Measure:
    found = dict(data)
    for key in ("value", "low", "high", "band", "spread"):
        if key in found:
            found[key] = _number(key, found[key])
    by_seed, replicates = (tuple(_number(key, x) for x in found.pop(key, ())) for key in ("by_seed", "replicates"))
    if found["better"] not in ("lower", "higher"):
        raise ValueError(f'better must be "lower" or "higher", not {found["better"]!r}')
    if found["band"] < 0:
        raise ValueError("a band cannot be negative")
    return Measure(by_seed=by_seed, replicates=replicates, **found)


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} must be a number, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number, not {value}")
    return float(value)
