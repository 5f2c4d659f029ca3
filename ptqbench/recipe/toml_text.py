"""A table of a recipe as TOML text that reads back as the same data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 120
"""Longer lines are broken where TOML allows it: tables into sections, arrays into lines."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def table_text(path: Sequence[str], table: Mapping[str, Any]) -> str:
    """`table` as the section [path], with sections of their own for tables that are too long for a line.

    Values are strings, booleans, integers, floats, arrays and tables of these. Raises `TypeError` for any other.
    """
    lines = [f"[{'.'.join(map(_key, path))}]"]
    sections = []
    for key, value in table.items():
        line = f"{_key(key)} = {value_text(value)}"
        if len(line) <= WIDTH or not value or not isinstance(value, Mapping | list | tuple):
            lines.append(line)
        elif isinstance(value, Mapping):
            sections.append(table_text((*path, key), value))
        else:
            lines += [f"{_key(key)} = [", *(f"    {value_text(item)}," for item in value), "]"]
    return "\n\n".join(["\n".join(lines), *sections])


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else string(key)


def string(text: str) -> str:
    """Text as a TOML string."""
    # JSON's escapes are TOML's, except that TOML wants one for DEL as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def value_text(value: object) -> str:
    """A value as TOML. Raises `TypeError` for what TOML has no words for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return string(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {value_text(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    raise TypeError(f"TOML has no {type(value).__name__}")
