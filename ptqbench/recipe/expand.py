"""From methods to cells: full precision first, then bits x methods x variants x seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ptqbench.recipe.checks import check_fit, check_steps
from ptqbench.recipe.experiment import FULL_BITS, FULL_PRECISION_CELL, Cell, Method
from ptqbench.recipe.keypath import KeyPath
from ptqbench.recipe.methods import Labelled
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.schema import parse_bits

MAX_CELLS = 10_000
"""A larger comparison is a slip of the pen; it is refused before it fills the memory."""


def expand(
    methods: Mapping[str, Sequence[Labelled]],
    labels: Sequence[str] | None,
    seeds: Sequence[int],
    sampling_steps: int | None,
    problems: Problems,
) -> tuple[Cell, ...]:
    """All cells in the order of the table; choices that make no cell are reported."""
    count = 1 + len(labels or [""]) * sum(map(len, methods.values())) * len(seeds)
    if count > MAX_CELLS:
        problems.add(("sweep",), f"makes {count} cells", f"at most {MAX_CELLS}: leave out values")
        return ()
    cells = [FULL_PRECISION_CELL]
    for label in dict.fromkeys(labels) if labels else [None]:
        for item in (item for items in methods.values() for item in items):
            method, where = _with_bits(item.method, label)
            _check(method, where, sampling_steps, problems)
            cells += [Cell(method, seed, item.label) for seed in dict.fromkeys(seeds)]
    _check_ids(cells, problems)
    return tuple(cells)


def _with_bits(method: Method, label: str | None) -> tuple[Method, KeyPath]:
    """The method at a label's bits (at its own without one), and the key that sets its bits."""
    if label is None:
        return method, ("methods", method.name)
    weights, activations = parse_bits(label)
    changed = replace(
        method,
        weights=replace(method.weights, bits=weights),
        activations=replace(method.activations, bits=activations),
    )
    return changed, ("sweep", "bits")


def _check(method: Method, bits_from: KeyPath, sampling_steps: int | None, problems: Problems) -> None:
    where = ("methods", method.name)
    check_fit(method, where, problems)
    check_steps(method, sampling_steps, where, problems)
    if method.weights.off and method.activations.off:
        message = f"W{FULL_BITS}A{FULL_BITS} quantizes nothing: that is the full-precision row"
        problems.add(bits_from, message, "leave it out, since every comparison has that row")


def _check_ids(cells: Iterable[Cell], problems: Problems) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.id in seen:
            problems.add(("sweep",), f"makes the row {cell.id} twice", "two values of an axis mean the same")
        seen.add(cell.id)
