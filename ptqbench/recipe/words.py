"""pydantic's findings in the words of a recipe: key paths, TOML's types, allowed values, nearest names."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ptqbench.plugin.names import nearest, suggest
from ptqbench.recipe.keypath import KeyPath
from ptqbench.recipe.problems import Problem

_TYPES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "float_type": "must be a number",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "tuple_type": "must be an array",
    "list_type": "must be an array",
    "set_type": "must be an array",
    "frozen_set_type": "must be an array",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "finite_number": "must be a finite number",
    "none_required": "must be left out",
}
_BOUNDS = {
    "greater_than_equal": ("must be at least", "ge"),
    "greater_than": ("must be greater than", "gt"),
    "less_than_equal": ("must be at most", "le"),
    "less_than": ("must be less than", "lt"),
    "multiple_of": ("must be a multiple of", "multiple_of"),
    "string_pattern_mismatch": ("must match the pattern", "pattern"),
}
_VALIDATORS = ("value_error", "assertion_error")
_LENGTHS = {
    "too_short": ("must have at least {min_length}", "item"),
    "too_long": ("must have at most {max_length}", "item"),
    "string_too_short": ("must have at least {min_length}", "character"),
    "string_too_long": ("must have at most {max_length}", "character"),
}


def problems_of(error: ValidationError, model: type[BaseModel], prefix: KeyPath, noun: str = "key") -> list[Problem]:
    """A validation error of `model` as problems. Its data stood at `prefix`; `noun` is what its fields are called."""
    merged: dict[KeyPath, list[str]] = {}
    hints: dict[KeyPath, str] = {}
    for item in error.errors(include_url=False):
        path, owner = _locate(item["loc"], model)
        field = owner.model_fields.get(str(path[-1])) if path else None
        message = _message(item, noun)
        if message not in merged.setdefault(path, []):
            merged[path].append(message)
        hints.setdefault(path, _hint(item, owner, field))
    # An array whose items are wrong also counts as too short: the items' own problems say it better.
    inner = {path[:length] for path in merged for length in range(len(path))}
    return [
        Problem(prefix + path, ", or ".join(messages), hints[path])
        for path, messages in merged.items()
        if not (path in inner and all("item" in message for message in messages))
    ]


def _locate(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[KeyPath, type[BaseModel]]:
    """The key path that an error's location means, and the model that owns its last key.

    pydantic appends the names of union members to a location; they are cut off where the fields end.
    """
    path: KeyPath = ()
    owner, inner = model, model
    at_model = True
    for part in loc:
        if isinstance(part, int):
            path += (part,)
        elif at_model:
            owner = inner
            path += (part,)
            field = owner.model_fields.get(part)
            found = _model_in(field.annotation) if field else None
            at_model, inner = found is not None, found or inner
        else:
            break
    return path, owner


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in typing.get_args(annotation) if (found := _model_in(arg))), None)


def _message(item: Mapping[str, Any], noun: str) -> str:
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"unknown {noun}"
    demand = _demand(kind, context, item["msg"])
    # A validator of a whole table has said what it refuses.
    return demand if kind in _VALIDATORS and isinstance(value, dict) else f"{demand}, not {render(value)}"


def _demand(kind: str, context: Mapping[str, Any], fallback: str) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {context[key]}"
    if kind in _LENGTHS:
        words, thing = _LENGTHS[kind]
        count = words.format(**context)
        return f"{count} {thing}" + ("" if count.endswith(" 1") else "s")
    if kind in ("literal_error", "enum"):
        return f"must be {_quotes(context['expected'])}"
    if kind in _VALIDATORS:
        return f"is not accepted ({context.get('error', fallback)})"
    if kind == "bits":
        return fallback
    return fallback[:1].lower() + fallback[1:]


def _hint(item: Mapping[str, Any], owner: type[BaseModel], field: FieldInfo | None) -> str:
    if item["type"] == "extra_forbidden":
        return suggest(str(item["loc"][-1]), owner.model_fields) if owner.model_fields else "it has none"
    hints = [field.description] if field is not None and field.description else []
    if item["type"] in ("literal_error", "enum") and isinstance(item.get("input"), str):
        allowed = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        close = nearest(item["input"], allowed)
        hints += [f'did you mean "{close}"?'] if close else []
    return "; ".join(hints)


def _quotes(expected: str) -> str:
    return expected.replace("'", '"')


def render(value: object) -> str:
    """A value as it may stand in TOML, shortened."""
    if isinstance(value, dict):
        return "a table"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
