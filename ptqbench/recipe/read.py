"""From a file and `--set` options to raw TOML data."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ptqbench.plugin.names import suggest
from ptqbench.recipe import keypath
from ptqbench.recipe.problems import Problems, fail

MAX_BYTES = 1 << 20
"""No recipe is longer than this; a longer file is something else."""


def read_recipe(path: Path) -> dict[str, Any]:
    """The TOML data of a recipe file. Raises `RecipeError` if it is no readable, non-empty TOML file."""
    name = str(path)
    data = _read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fail(name, f"not UTF-8 text (byte {error.start})", "a recipe is a TOML file in UTF-8") from error
    if not text.strip():
        raise fail(name, "the file is empty", "`ptqbench describe` and the recipes folder show what a recipe holds")
    try:
        raw = tomllib.loads(text)
    except ValueError as error:  # tomllib's own, and Python's for numbers of thousands of digits
        raise fail(name, f"not valid TOML: {error}", _toml_hint(text, str(error))) from error
    except RecursionError as error:
        raise fail(name, "not valid TOML: nested too deeply") from error
    if not raw:
        raise fail(name, "the file holds only comments", "a recipe needs [recipe], [model] and [methods.NAME] at least")
    return raw


def _read_bytes(path: Path) -> bytes:
    name = str(path)
    if path.is_dir():
        raise fail(name, "this is a folder, not a recipe file", "name the .toml file in it")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        siblings = [p.name for p in sorted(path.parent.glob("*.toml")) if _is_recipe(p)] if path.parent.is_dir() else []
        hint = suggest(path.name, siblings, "recipes there") if siblings else ""
        raise fail(name, "there is no such file", hint) from error
    except (OSError, ValueError) as error:
        raise fail(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_BYTES:
        raise fail(name, f"larger than {MAX_BYTES // 1024} KiB", "is it the right file? A recipe is short")
    return data


def _is_recipe(path: Path) -> bool:
    """Whether a file looks like a recipe, which other TOML files beside it do not."""
    try:
        with path.open("rb") as stream:
            return re.search(rb"(?m)^\s*\[methods\b", stream.read(MAX_BYTES)) is not None
    except OSError:
        return False


def _toml_hint(text: str, message: str) -> str:
    match = re.search(r"line (\d+)", message)
    lines = text.splitlines()
    if not match or int(match[1]) > len(lines):
        return ""
    line = lines[int(match[1]) - 1].strip()
    return f"line {match[1]}: {line[:100]}"


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str], problems: Problems) -> dict[str, Any]:
    """A copy of the data with each `key.path=value` set. A value is TOML; anything else is taken as a string.

    A key of a method that is not there is a problem: setting it would make a second method out of a slip of the pen. A
    whole new one may be given as `methods.NAME={...}`. Values of types that no key takes are reported as `plain` does.
    """
    merged = copy.deepcopy(dict(raw))
    for override in overrides:
        key, equals, text = override.partition("=")
        where = (f"--set {override}",)
        if not equals:
            problems.add(where, "there is no = in it", "write --set key.path=value")
            continue
        try:
            path = keypath.parse(key)
            methods = merged.get("methods")
            if path[0] == "methods" and len(path) > 2 and isinstance(methods, dict) and path[1] not in methods:
                problems.add(where, f'there is no method "{path[1]}" in this recipe', suggest(path[1], methods, "methods"))
                continue
            keypath.put(merged, path, _value(text.strip()))
        except ValueError as error:
            problems.add(where, str(error), "write --set key.path=value, for example --set sampling.images=64")
    found: dict[str, Any] = plain(merged, (), problems)
    return found


def plain(value: Any, where: keypath.KeyPath, problems: Problems) -> Any:
    """A copy in the types that records, digests and worker processes take; anything else, such as a date of TOML or a path of
    Python, is reported and goes on as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner, (*where, str(key)), problems) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, (*where, i), problems) for i, inner in enumerate(value)]
    if isinstance(value, str):
        text = value.encode(errors="replace").decode()
        if text != value:
            problems.add(where, "is no Unicode text", "write UTF-8")
        return text
    if not isinstance(value, bool | int | float):
        remedy = "a recipe holds strings (in quotes), numbers, true, false, arrays and tables"
        problems.add(where, f"no key takes a {type(value).__name__}", remedy)
        return str(value)
    return value


def _value(text: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if text[:1] in "[{\"'":
            raise ValueError(f"{text or 'nothing'} is not a TOML value") from error
        return text
    if set(parsed) != {"value"}:
        raise ValueError(f"{text!r} is more than one TOML value")
    return parsed["value"]
