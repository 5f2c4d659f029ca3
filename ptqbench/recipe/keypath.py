"""Key paths such as `methods."a.b".weighter.groups`: reading, writing, and setting a value in nested tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

KeyPath = tuple[str | int, ...]

_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s."'=\[\]]+))\s*""")
_BARE = re.compile(r"[A-Za-z0-9_*+-]+")
_NOTHING = object()


def parse(text: str) -> tuple[str, ...]:
    """The parts of a dotted key path, with quotes as in TOML. Raises `ValueError` if it is not one."""
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(text, position)
        if not match:
            raise ValueError(f"{text!r} is not a key path such as methods.NAME.weighter")
        parts.append(next(group for group in match.groups() if group is not None))
        position = match.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            raise ValueError(f"{text!r} is not a key path such as methods.NAME.weighter")
        position += 1


def show(path: Sequence[str | int]) -> str:
    """A key path as one writes it: dots between keys, quotes where TOML wants them, [i] for the i-th item (from 0)."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE.fullmatch(part) else f'"{part}"'
            text += f".{key}" if text else key
    return text


def at(table: object, path: Sequence[str | int], otherwise: Any = None) -> Any:
    """What stands at a path of nested tables and arrays, or what is said `otherwise`."""
    for key in path:
        items = dict(enumerate(table)) if isinstance(table, list) else table
        if not isinstance(items, dict) or key not in items:
            return otherwise
        table = items[key]
    return table


def writes(table: object, path: Sequence[str | int]) -> bool:
    """Whether a table itself has something at a path."""
    return at(table, path, _NOTHING) is not _NOTHING


def put(table: dict[str, Any], path: Sequence[str], value: object) -> None:
    """Set a value in nested tables, in place; tables on the way are made.

    A string on the way is a component's short form and becomes `{ use = string }`. Raises `ValueError` if something
    else on the way is no table.
    """
    for depth, key in enumerate(path[:-1], start=1):
        inner = table.setdefault(key, {})
        if isinstance(inner, str):
            inner = table[key] = {"use": inner}
        if not isinstance(inner, dict):
            raise ValueError(f"{show(path[:depth])} is not a table, so it has no {path[depth]}")
        table = inner
    table[path[-1]] = value
