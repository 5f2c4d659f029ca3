"""ptqbench: compare post-training-quantization methods for diffusion models under one contract.

Plugin authors import everything they need for a registration from here; nothing in this module imports torch. The functions of
the Python door (docs/python.md) are imported when they are first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ptqbench.plugin.component import Component, NoOptions, Options, Preset
from ptqbench.plugin.hookspecs import hookimpl
from ptqbench.version import __version__

if TYPE_CHECKING:
    from ptqbench.api.check import check
    from ptqbench.api.compare import compare
    from ptqbench.api.export import export
    from ptqbench.api.load import load
    from ptqbench.api.plan import plan
    from ptqbench.api.quantize import quantize
    from ptqbench.api.quantized import Quantized
    from ptqbench.api.recipe import load_recipe
    from ptqbench.api.result import Run
    from ptqbench.api.run import run
    from ptqbench.api.states import States, record_states
    from ptqbench.api.time import time

__all__ = [
    "Component",
    "NoOptions",
    "Options",
    "Preset",
    "Quantized",
    "Run",
    "States",
    "__version__",
    "check",
    "compare",
    "export",
    "hookimpl",
    "load",
    "load_recipe",
    "plan",
    "quantize",
    "record_states",
    "run",
    "time",
]

_DOOR = {
    "Quantized": "quantized",
    "Run": "result",
    "States": "states",
    "check": "check",
    "compare": "compare",
    "export": "export",
    "load": "load",
    "load_recipe": "recipe",
    "plan": "plan",
    "quantize": "quantize",
    "record_states": "states",
    "run": "run",
    "time": "time",
}
"""What is imported when it is first asked for: the modules of `ptqbench.api`."""


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"ptqbench.api.{_DOOR[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_DOOR})
