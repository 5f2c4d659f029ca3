"""A component's options as rows for people: name, type, default, bounds, help."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticUndefined

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "string",
    "boolean": "true or false",
    "object": "table",
}
_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "multiple of {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matches {}",
}


@dataclass(frozen=True)
class OptionRow:
    """One option; `default` is TOML-like text, "required" where there is none."""

    name: str
    type: str
    default: str
    bounds: str
    help: str


def option_rows(model: type[BaseModel]) -> list[OptionRow]:
    """The options of a component in the order of its class."""
    try:
        schema = model.model_json_schema()
    except PydanticInvalidForJsonSchema:
        schema = {}
    properties, definitions = schema.get("properties", {}), schema.get("$defs", {})
    rows = []
    for name, field in model.model_fields.items():
        part = properties.get(name, {})
        default = field.get_default(call_default_factory=True, validated_data={})
        rows.append(
            OptionRow(
                name=name,
                type=_type(part, definitions) or str(field.annotation),
                default="required" if default is PydanticUndefined else _text(default),
                bounds=", ".join(_bounds(part)),
                help=field.description or "",
            )
        )
    return rows


def _type(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return _type(definitions.get(part["$ref"].rpartition("/")[2], {}), definitions)
    if "enum" in part:
        return " | ".join(_text(value) for value in part["enum"])
    if "const" in part:
        return _text(part["const"])
    if "anyOf" in part:
        kinds = [_type(option, definitions) for option in part["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if part.get("type") == "array":
        items: Mapping[str, Any] = part.get("items") or next(iter(part.get("prefixItems", [])), {})
        inner = _type(items, definitions)
        return f"array of {inner}" if inner else "array"
    return _TYPES.get(part.get("type", ""), "")


def _bounds(part: Mapping[str, Any]) -> list[str]:
    found = [words.format(part[key]) for key, words in _BOUNDS.items() if key in part]
    items = part.get("items")
    for inner in [*part.get("anyOf", []), *([items] if items else [])]:
        found += [bound for bound in _bounds(inner) if bound not in found]
    return found


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        return str(value)
