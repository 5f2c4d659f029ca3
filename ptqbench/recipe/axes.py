"""Generic sweep axes: `"methods.*.weighter.temperature" = [0.5, 1.0]` makes a variant of each method for each value."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ptqbench.errors import UserError
from ptqbench.plugin.names import nearest, suggest
from ptqbench.recipe import keypath
from ptqbench.recipe.bind import Binder
from ptqbench.recipe.checks import is_read
from ptqbench.recipe.extend import complete
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.schema import METHOD_REFERENCES, STARTS, ActivationSite, MethodSection, SweepSection, WeightSite

_BITS = (("weights", "bits"), ("activations", "bits"))
KEYS = {
    (): tuple(key for key in MethodSection.model_fields if key not in STARTS),
    ("weights",): tuple(WeightSite.model_fields),
    ("activations",): tuple(ActivationSite.model_fields),
}
"""The keys of a method and of its sites; what it starts from is none."""


@dataclass(frozen=True)
class Axis:
    """One key that varies: `method` is a name or "*", `path` the keys below it, `key` the axis as it is spelt."""

    key: str
    method: str
    path: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def reference(self) -> tuple[str, ...] | None:
        """The place of the component whose option varies, or None if a key of the method itself varies."""
        return next((ref for ref in METHOD_REFERENCES if self.path[: len(ref)] == ref and self.path != ref), None)


@dataclass(frozen=True)
class Variant:
    """A method's table with one value chosen on each axis; `origin` maps changed paths to the axis and the value."""

    table: Mapping[str, Any]
    labels: tuple[str, ...] = ()
    origin: Mapping[tuple[str, ...], tuple[str, Any]] = field(default_factory=dict)


def read_axes(sweep: Mapping[str, Any], methods: Collection[str] | None, problems: Problems) -> list[Axis]:
    """The axes of [sweep], short paths first so that a component is chosen before its options; wrong ones reported.

    `methods` are those that there are, None in a recipe that does not say.
    """
    found: list[Axis] = []
    for key, values in sweep.items():
        if key in SweepSection.model_fields:
            continue
        where = ("sweep", key)
        try:
            parts = keypath.parse(key)
        except ValueError:
            parts = (key,)
        if len(parts) < 3 or parts[0] != "methods":
            _report_no_axis(key, values, problems)
            continue
        already = len(problems)
        if methods is not None and parts[1] != "*" and parts[1] not in methods:
            hint = suggest(parts[1], [*methods, "*"])
            problems.add(where, f'matches no method: there is no "{parts[1]}"', hint)
        _check_values(where, key, values, problems)
        if parts[2] in STARTS:
            problems.add(where, "what a method starts from cannot vary", "write two methods")
        elif parts[2:] in _BITS and "bits" in sweep:
            problems.add(where, "stands beside sweep.bits, which sets the same key", "keep one of the two")
        elif any(a.path == parts[2:] and (a.method == parts[1] or "*" in (a.method, parts[1])) for a in found):
            problems.add(where, "sets the same key as another axis", "keep one of the two")
        if len(problems) == already:
            found.append(Axis(key, parts[1], parts[2:], tuple(values)))
    return sorted(found, key=lambda axis: len(axis.path))


def _check_values(where: keypath.KeyPath, key: str, values: object, problems: Problems) -> None:
    if not isinstance(values, list) or not values:
        problems.add(where, "must be an array of values", f'"{key}" = [..., ...]')
    elif len({json.dumps(value, sort_keys=True) for value in values}) < len(values):
        problems.add(where, "has a value twice", "each value makes a row; leave one out")


def _report_no_axis(key: str, values: object, problems: Problems) -> None:
    if isinstance(values, dict):
        problems.add(("sweep", key), "a key path must be quoted", 'for example "methods.*.weights.bits" = [4, 8]')
        return
    close = nearest(key, SweepSection.model_fields)
    guess = f'did you mean "{close}"? ' if close else ""
    rule = 'bits, seeds, or a quoted key path below one method or all, such as "methods.*.weights.bits"'
    problems.add(("sweep", key), "unknown key", f"{guess}allowed: {rule}")


def variants(name: str, table: Mapping[str, Any], axes: Sequence[Axis], binder: Binder, used: set[str]) -> list[Variant]:
    """All variants of a completed method table, in the order of the axes' values. `used` collects axes that applied."""
    found = [Variant(table)]
    for axis in axes:
        found = [new for old in found for new in _split(name, old, axis, axes, binder, used)]
    return found


def _split(name: str, variant: Variant, axis: Axis, axes: Sequence[Axis], binder: Binder, used: set[str]) -> list[Variant]:
    if not _applies(name, variant.table, axis, binder):
        return [variant]
    used.add(axis.key)
    split = []
    for value in axis.values:
        changed = copy.deepcopy(dict(variant.table))
        try:
            keypath.put(changed, axis.path, value)
        except ValueError as error:
            binder.problems.add(("sweep", axis.key), str(error))
            return [variant]
        labels = variant.labels if axis.path in _BITS else (*variant.labels, f"{_short(axis, axes)}={_text(value)}")
        origin = {**variant.origin, ("methods", name, *axis.path): (axis.key, value)}
        split.append(Variant(complete(changed), labels, origin))
    return split


def _applies(name: str, table: Mapping[str, Any], axis: Axis, binder: Binder) -> bool:
    """A named method always; "*" means every method that reads the key, and whose component has the option."""
    if axis.method != "*":
        return axis.method == name
    if not is_read(table, axis.path):
        return False
    if axis.reference is None:
        return axis.path[-1] in KEYS.get(axis.path[:-1], ())
    return binder.has_option(table, axis.path[: len(axis.reference) + 1])


def report_unused(
    axes: Sequence[Axis], used: set[str], tables: Mapping[str, Mapping[str, Any]], binder: Binder, whole: bool
) -> None:
    """Report axes that applied to no method, with the keys that would have.

    Where a component is not there, or a method not known (`whole` is false), nothing is said of options: it may have them.
    """
    for axis in axes:
        if axis.key in used:
            continue
        known = set(KEYS.get(axis.path[:-1], ()))
        records = binder.chosen(tables.values(), axis.reference) if axis.reference else []
        if axis.reference and (not whole or any(isinstance(record, UserError) for record in records)):
            continue
        for record in records:
            known |= set() if isinstance(record, UserError) else set(record.component.options.model_fields)
        if not whole and axis.path[-1] in known:
            continue
        binder.problems.add(("sweep", axis.key), "matches no method", suggest(axis.path[-1], known, "keys there"))


def _short(axis: Axis, axes: Sequence[Axis]) -> str:
    """The last key of the path, or as many as tell it from the other axes."""
    for length in range(1, len(axis.path)):
        tail = axis.path[-length:]
        if all(other.path[-length:] != tail or other.path == axis.path for other in axes):
            return ".".join(tail)
    return ".".join(axis.path)


def _text(value: object) -> str:
    if isinstance(value, dict):
        rest = ",".join(f"{key}={_text(inner)}" for key, inner in value.items() if key != "use")
        return f"{value['use']}({rest})" if "use" in value and rest else str(value.get("use", f"({rest})"))
    if isinstance(value, list):
        return "[" + ",".join(_text(item) for item in value) + "]"
    if isinstance(value, str):
        return value.replace("/", ":")
    return json.dumps(value)
