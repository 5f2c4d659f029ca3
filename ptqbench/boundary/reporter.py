"""What a reporter returns: text. No torch, as `ptqbench show` needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptqbench.boundary.call import Call
from ptqbench.roles.reporter import Reporter


def check_made(call: Call, reporter: Reporter) -> None:
    """What a reporter says of itself."""
    if not isinstance(reporter.suffix, str) or not reporter.suffix.startswith("."):
        raise call.refused(f"has the suffix {reporter.suffix!r}", 'a suffix is a file ending, such as ".txt"')


def _render(call: Call, _: Reporter, render: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    found = render(*args, **kwargs)
    if not isinstance(found, str):
        raise call.refused(f"returned {type(found).__name__}", "return the text")
    return found


CHECKS = {"render": _render}
