"""ptqbench: compare post-training-quantization methods for diffusion models under one contract.

Plugin authors import everything they need for a registration from here; nothing in this module imports torch.
"""

from ptqbench.component import Component, NoOptions, Options, Preset
from ptqbench.hookspecs import hookimpl

__all__ = ["Component", "NoOptions", "Options", "Preset", "__version__", "hookimpl"]
__version__ = "0.1.0"
