"""From methods to cells: full precision first, then bits x methods x variants x seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ptqbench.recipe.build import Draft
from ptqbench.recipe.checks import check_fit, check_steps
from ptqbench.recipe.experiment import FULL_BITS, FULL_PRECISION_CELL, Cell, Method
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
    cells = [FULL_PRECISION_CELL]
    every = [item for items in methods.values() for item in items]
    count = 1 + len(labels or [""]) * len(every) * len(seeds)
    for label in dict.fromkeys(labels) if labels else [None]:
        for item in every:
            _check(item.draft, label, sampling_steps, problems)
            if item.draft.method is not None and count <= MAX_CELLS:
                method = _with_bits(item.draft.method, label)
                cells += [Cell(method, seed, item.label) for seed in dict.fromkeys(seeds)]
    if count > MAX_CELLS:
        problems.add(("sweep",), f"makes {count} cells", f"at most {MAX_CELLS}: leave out values")
        return ()
    _check_ids(cells, problems)
    return tuple(cells)


def _with_bits(method: Method, label: str | None) -> Method:
    """The method at a label's bits, at its own without one."""
    if label is None:
        return method
    weights, activations = parse_bits(label)
    return replace(
        method,
        weights=replace(method.weights, bits=weights),
        activations=replace(method.activations, bits=activations),
    )


def _check(draft: Draft, label: str | None, sampling_steps: int | None, problems: Problems) -> None:
    """What a method's choices mean to each other at a label's bits."""
    where = ("methods", draft.name)
    bits = draft.bits if label is None else parse_bits(label)
    check_fit(draft.components, bits, where, problems)
    check_steps(draft.steps, sampling_steps, where, problems)
    if bits == (FULL_BITS, FULL_BITS):
        message = f"W{FULL_BITS}A{FULL_BITS} quantizes nothing: that is the full-precision row"
        problems.add(
            where if label is None else ("sweep", "bits"), message, "leave it out, since every comparison has that row"
        )


def _check_ids(cells: Iterable[Cell], problems: Problems) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.id in seen:
            problems.add(("sweep",), f"makes the row {cell.id} twice", "two values of an axis mean the same")
        seen.add(cell.id)
