"""What an engine loads: something to run, and a share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptqbench.boundary.call import Call, wrapped
from ptqbench.boundary.values import described, number
from ptqbench.roles.engine import Engine, Program


def check_made(call: Call, engine: Engine) -> None:
    """What an engine says of itself."""
    if not isinstance(getattr(engine, "version", None), str):
        raise call.refused("names no version", 'version is a string, such as "onnxruntime 1.20.0"')


def _load(call: Call, _: Engine, load: Callable[..., Any], *args: Any, **kwargs: Any) -> Program:
    found = load(*args, **kwargs)
    if not isinstance(found, Program):
        raise call.refused(f"loaded {described(found)}", "return a ptqbench.roles.engine.Program")
    share = number(call, "the share of integers", found.integer_share)
    if not 0 <= share <= 1:
        raise call.refused(f"executes a share of {share:.4g} on integers", "a share lies in [0, 1]")
    return Program(wrapped(call, found.run), share)


CHECKS = {"load": _load}
