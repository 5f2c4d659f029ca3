"""Components of the tests' own making, called as the core calls them."""

from __future__ import annotations

from typing import Any

from ptqbench.boundary.build import build
from ptqbench.plugin.component import Bound, Component, NoOptions, Options


def make(role: str, found: type, options: Options | None = None, **context: Any) -> Any:
    """A component of this class, named "trial" in the plugin "trial.py"."""
    options = options or NoOptions()
    component = Component(role, "trial", "a trial", found, type(options))
    return build(Bound(component, options, "trial.py", ""), **context)


def answering(interface: type, **answers: Any) -> type:
    """A subclass whose methods give these answers: values, or functions of the instance and its arguments."""

    def method(answer: Any) -> Any:
        return answer if callable(answer) else lambda self, *args, **kwargs: answer

    abstract = dict.fromkeys(getattr(interface, "__abstractmethods__", ()), None)
    return type("Trial", (interface,), {name: method(answer) for name, answer in (abstract | answers).items()})
