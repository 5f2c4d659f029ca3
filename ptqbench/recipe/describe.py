"""Methods in words that a record keeps and people read: components with their options, and grids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ptqbench.plugin.component import Bound
from ptqbench.recipe.experiment import Cell, Method, SiteChoice


def describe_methods(cells: Iterable[Cell], *, defaults: bool = True) -> dict[str, dict[str, Any]]:
    """The method of every row of the table, by the row's id ("gacq/W4A8", "gacq/W4A8/iterations=5")."""
    return {cell.row: describe_method(cell.method, defaults=defaults) for cell in cells if cell.method}


def describe_method(method: Method, *, defaults: bool = True) -> dict[str, Any]:
    """A method's components, options and grids, with everything that a recipe and presets fill in.

    Options that have their default are left out unless `defaults`.
    """

    def chosen(bound: Bound | None) -> Any:
        options = bound.options.model_dump(mode="json", exclude_defaults=not defaults) if bound else {}
        return {"use": bound.name, **options} if bound else None

    def site(choice: SiteChoice) -> dict[str, Any]:
        grid = {"bits": choice.bits, "per": choice.per, "symmetric": choice.symmetric, "steps": choice.steps}
        return grid | {"quantizer": chosen(choice.quantizer), "range": chosen(choice.range)}

    return {
        "preset": method.preset or None,
        "sampler": chosen(method.sampler),
        "weighter": chosen(method.weighter),
        "reconstruction": chosen(method.reconstruction),
        "losses": [chosen(term) for term in method.losses],
        "partitioner": chosen(method.partitioner),
        "passes": [chosen(p) for p in method.passes],
        "weights": site(method.weights),
        "activations": site(method.activations),
        "hooks": [chosen(hook) for hook in method.hooks],
        **({"network": chosen(method.network)} if method.network else {}),
    }
