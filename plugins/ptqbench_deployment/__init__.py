"""How a quantized denoiser leaves, and what runs it: exporters and engines.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from ptqbench import Component, hookimpl


@hookimpl
def ptqbench_components() -> list[Component]:
    """The exporter `safetensors`."""
    return [
        Component(
            "exporter",
            "safetensors",
            "codes packed at their bits, grids and a manifest, which ptqbench.load reads",
            "ptqbench_deployment.folder:SafetensorsExporter",
        ),
    ]
