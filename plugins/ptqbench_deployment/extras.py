"""Packages that are extras."""

from __future__ import annotations

import importlib.util

from ptqbench.errors import UserError


def require(*packages: str, extra: str) -> None:
    """Raises `UserError` naming the extra if one of its packages is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{missing[0]} is not installed", f'pip install "ptqbench[{extra}]"')
