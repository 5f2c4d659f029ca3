"""ptqbench: compare post-training-quantization methods for diffusion models under one contract.

Plugin authors import everything they need for a registration from here; nothing in this module imports torch.
"""

from ptqbench.plugin.component import Component, NoOptions, Options, Preset
from ptqbench.plugin.hookspecs import hookimpl
from ptqbench.version import __version__

__all__ = ["Component", "NoOptions", "Options", "Preset", "__version__", "hookimpl"]
