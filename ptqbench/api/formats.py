"""How a quantized denoiser may leave. No torch, so that the command line knows the names."""

from __future__ import annotations

FORMATS = {"safetensors": "ptqbench.api.quantized:Quantized.save"}
"""By the format's name, what writes a `Quantized` to a folder, as "module:function" or "module:Class.method"."""
