"""Methods in words that a record keeps and people read: components with their options, and grids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ptqbench.plugin.component import Bound
from ptqbench.recipe.experiment import Cell, Method, SiteChoice


def describe_methods(cells: Iterable[Cell]) -> dict[str, dict[str, Any]]:
    """The method of every row of the table, by the row's id ("gacq/W4A8", "gacq/W4A8/iterations=5")."""
    return {cell.row: describe_method(cell.method) for cell in cells if cell.method}


def describe_method(method: Method) -> dict[str, Any]:
    """A method's components, options and grids, with everything that presets and defaults filled in."""
    return {
        "preset": method.preset or None,
        "sampler": _chosen(method.sampler),
        "weighter": _chosen(method.weighter),
        "reconstruction": _chosen(method.reconstruction),
        "losses": [_chosen(term) for term in method.losses],
        "partitioner": _chosen(method.partitioner),
        "passes": [_chosen(p) for p in method.passes],
        "weights": _site(method.weights),
        "activations": _site(method.activations),
        "hooks": [_chosen(hook) for hook in method.hooks],
    }


def _site(site: SiteChoice) -> dict[str, Any]:
    grid = {"bits": site.bits, "per": site.per, "symmetric": site.symmetric, "steps": site.steps}
    return grid | {"quantizer": _chosen(site.quantizer), "range": _chosen(site.range)}


def _chosen(bound: Bound | None) -> Any:
    return None if bound is None else {"use": bound.name, **bound.options.model_dump(mode="json")}
