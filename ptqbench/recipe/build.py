"""From one complete table to a `Method`: its components bound, and checked against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptqbench.plugin.component import Bound
from ptqbench.recipe.bind import Binder, sound_values, validate
from ptqbench.recipe.checks import CLOSED_FORM, Components, check_closed_form, is_read
from ptqbench.recipe.experiment import Method, SiteChoice
from ptqbench.recipe.keypath import KeyPath, at, show
from ptqbench.recipe.schema import METHOD_LISTS, METHOD_REFERENCES, ActivationSite, MethodSection, WeightSite


@dataclass(frozen=True)
class Choices:
    """The components that a method names: by key path where there is one (None if it did not resolve), lists by key."""

    single: dict[tuple[str, ...], Bound | None]
    lists: dict[str, tuple[Bound, ...]]

    def __iter__(self) -> Iterator[tuple[str, Bound]]:
        """What resolved, with the key that names it."""
        yield from ((show(path), bound) for path, bound in self.single.items() if bound is not None)
        yield from ((key, bound) for key, several in self.lists.items() for bound in several)


def choose(table: Mapping[str, Any], where: KeyPath, binder: Binder) -> Choices:
    """The components of a complete table; what does not resolve or fit together is reported."""
    single: dict[tuple[str, ...], Bound | None] = {}
    for path, (role, _) in METHOD_REFERENCES.items():
        single[path] = binder.bind(role, at(table, path), (*where, *path))
    _take_defaults(single, where, binder)
    reconstruction = single[("reconstruction",)]
    closed_form = reconstruction is not None and CLOSED_FORM in reconstruction.component.traits
    # Where nothing is fitted no loss is read, so the default need not even be installed.
    unread = closed_form and _says(table.get("losses"), METHOD_LISTS["losses"][1])
    given = {key: () if key == "losses" and unread else table.get(key) for key in METHOD_LISTS}
    lists = {
        key: binder.bind_all(role, given[key], (*where, key), one_of_a_name=key == "losses")
        for key, (role, _) in METHOD_LISTS.items()
    }
    terms = given["losses"]
    losses = [binder.named("loss", term) for term in terms] if isinstance(terms, list) else []
    check_closed_form(records(table, binder), losses, where, binder.problems)
    return Choices(single, lists)


def records(table: Mapping[str, Any], binder: Binder) -> Components:
    """What a table names at each key path, whatever the options are; None for what its library would not read."""
    read = {path: role for path, (role, _) in METHOD_REFERENCES.items() if is_read(table, path)}
    return {path: binder.named(read[path], at(table, path)) if path in read else None for path in METHOD_REFERENCES}


@dataclass(frozen=True)
class Draft:
    """What is known of a method, even where something in it is wrong: bits and step groups are None where they are.

    `method` is None if it cannot be built.
    """

    name: str
    components: Components
    bits: tuple[int | None, int | None]
    steps: int | None
    method: Method | None


def draft(name: str, table: Mapping[str, Any], preset: str, sampling_steps: int | None, binder: Binder) -> Draft:
    """The method that a table describes, as far as it does; what is wrong is reported to the binder."""
    method = build(name, table, preset, sampling_steps, binder)
    weights, activations = (
        sound_values(model, table.get(key, {})) for key, model in (("weights", WeightSite), ("activations", ActivationSite))
    )
    steps = activations.get("steps")
    bits = weights.get("bits"), activations.get("bits")
    return Draft(name, records(table, binder), bits, None if steps == "each" else steps, method)


def build(name: str, table: Mapping[str, Any], preset: str, sampling_steps: int | None, binder: Binder) -> Method | None:
    """The method that a complete table describes, or None with the reasons reported to the binder.

    `sampling_steps` is what steps = "each" stands for; it is None in a recipe that is broken elsewhere.
    """
    where = ("methods", name)
    section: MethodSection | None = validate(MethodSection, table, where, binder.problems)
    choices = choose(table, where, binder)
    if section is None or binder.problems.found:
        return None
    chosen = {path: value for path, value in choices.single.items() if value is not None}
    steps = section.activations.steps
    return Method(
        name=name,
        sampler=chosen[("sampler",)],
        weighter=chosen[("weighter",)],
        reconstruction=chosen[("reconstruction",)],
        weights=_site(section.weights, 1, chosen, "weights"),
        activations=_site(section.activations, (sampling_steps or 1) if steps == "each" else steps, chosen, "activations"),
        passes=choices.lists["passes"],
        partitioner=chosen.get(("partitioner",)),
        network=chosen.get(("network",)),
        losses=choices.lists["losses"],
        hooks=choices.lists["hooks"],
        preset=preset,
    )


def _take_defaults(bound: dict[tuple[str, ...], Bound | None], where: KeyPath, binder: Binder) -> None:
    """Where the recipe names no component of a role, take the one that another chosen component implies."""
    for owner in [b for b in bound.values() if b is not None]:
        for role, name in owner.component.defaults.items():
            if (role,) in bound and bound[(role,)] is None:
                bound[(role,)] = binder.bind(role, name, (*where, role))


def _says(references: object, names: Sequence[str]) -> bool:
    """Whether an array names exactly these components, without options."""
    return references in ([*names], [{"use": name} for name in names])


def _site(section: WeightSite | ActivationSite, steps: int, chosen: Mapping[tuple[str, ...], Bound], key: str) -> SiteChoice:
    return SiteChoice(
        bits=section.bits,
        per=section.per,
        symmetric=section.symmetric,
        steps=steps,
        each=isinstance(section, ActivationSite) and section.steps == "each",
        quantizer=chosen[(key, "quantizer")],
        range=chosen[(key, "range")],
    )
