"""What else all code of a process shares: filters of warnings, the working folder, variables of the environment."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from ptqbench.process.overrides import OVERRIDES
from ptqbench.process.shared import RUN, Shared


def _filters() -> list[Any]:
    return list(warnings.filters)


def _set_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()  # also tells modules that what they remember of old filters is void
    warnings.filters[:] = filters  # type: ignore[index]


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _set_folder(folder: str) -> None:
    if folder:
        os.chdir(folder)


def _variables() -> dict[str, str]:
    return {name: os.environ[name] for name in OVERRIDES if name in os.environ}


def _set_variables(values: Mapping[str, str]) -> None:
    for name in OVERRIDES:
        os.environ.pop(name, None)
    os.environ.update(values)


SURROUNDINGS = {
    "warnings": Shared("the filters of warnings", _filters, _set_filters, instead="use `with warnings.catch_warnings():`"),
    "folder": Shared("the working folder", _folder, _set_folder, instead="name whole paths"),
    "environment": Shared("environment variables that change arithmetic", _variables, _set_variables, instead=RUN),
}
