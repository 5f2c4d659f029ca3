"""The plain weighting: every calibration sample counts the same.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from ptqbench import Component, hookimpl


@hookimpl
def ptqbench_components() -> list[Component]:
    """The weighter `uniform`."""
    summary = "every calibration sample counts the same"
    return [Component("weighter", "uniform", summary, "ptqbench_uniform.weighter:UniformWeighter")]
