"""A method's components in a few words each, for the tables of `check-recipe` and `plan`."""

from __future__ import annotations

from collections.abc import Sequence

from ptqbench.plugin.component import Bound
from ptqbench.recipe.experiment import Method, SiteChoice

HEADINGS = ("preset", "network", "sampler", "weighter", "reconstruction", "losses", "weights", "activations", "passes", "hooks")


def method_words(method: Method | None) -> tuple[str, ...]:
    """One entry for each of `HEADINGS`; "" for what the method has not, and for everything without a method."""
    if method is None:
        return ("",) * len(HEADINGS)
    if method.network is not None:  # the library reads nothing else
        return (method.preset, method.network.name, method.sampler.name, *("",) * (len(HEADINGS) - 3))
    return (
        method.preset,
        "",
        method.sampler.name,
        method.weighter.name,
        method.reconstruction.name,
        _names(method.losses),
        _site(method.weights),
        _site(method.activations),
        _names(method.passes),
        _names(method.hooks),
    )


def _names(several: Sequence[Bound]) -> str:
    return ", ".join(bound.name for bound in several)


def _site(choice: SiteChoice) -> str:
    if choice.off:
        return ""
    steps = f", {choice.steps} step groups" if choice.steps > 1 else ""
    return f"{choice.quantizer.name}/{choice.range.name}{steps}"
