"""Paths in options: relative ones start at the recipe's folder, like every path that a recipe names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

FOLDER = "folder"
"""What the recipe's folder is called in the context of validation; without one, paths start at the working folder."""


def _beside(value: str, info: ValidationInfo) -> str:
    return str(_folder(info) / Path(value).expanduser()) if value else value


def _beside_if_path(value: str, info: ValidationInfo) -> str:
    first, slash, rest = value.partition("/")
    folder = _folder(info)
    # An id has the form OWNER/NAME. Where the first part is a folder here, the rest was meant to be in it.
    named = value.startswith((".", "~", "/")) or not slash or "/" in rest or (folder / first).is_dir()
    return _beside(value, info) if named else value


def _folder(info: ValidationInfo) -> Path:
    folder = (info.context or {}).get(FOLDER)
    return Path.cwd() if folder is None else Path(folder).resolve()


RecipePath = Annotated[str, AfterValidator(_beside)]
"""A file or folder; "" for none."""

RecipePathOrId = Annotated[str, AfterValidator(_beside_if_path)]
"""A folder, or an id of the form OWNER/NAME that no folder beside the recipe begins like."""
