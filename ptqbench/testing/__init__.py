"""Whether a plugin holds to the contract: the same checks for pytest and for `ptqbench plugin check`.

    import pytest
    from ptqbench.testing import check, components

    @pytest.mark.parametrize("component", components("late_weighter.py"), ids=str)
    def test_conformance(component):
        check(component)

`components` takes a file, or the name of an installed plugin or of its package, and options where a component has no use
without them. Everything runs on a CPU, on networks with random weights, in seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptqbench.testing.conformance import check, checks, components
    from ptqbench.testing.trial import Trial

__all__ = ["Trial", "check", "checks", "components"]


def __getattr__(name: str) -> Any:
    # Processes of executors on trial come by here, and need none of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "trial" if name == "Trial" else "conformance"
    return getattr(importlib.import_module(f"ptqbench.testing.{home}"), name)
