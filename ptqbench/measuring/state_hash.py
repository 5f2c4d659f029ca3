"""A short name for what quantization made of a model: its codes, scales and zero points, bit for bit."""

from __future__ import annotations

import hashlib

from ptqbench.quant.model import QuantizedDenoiser


def state_hash(q: QuantizedDenoiser) -> str:
    """Twelve hex digits of the SHA-256 over the finished codes and grids of all layers and attentions.

    The last bits of a sum depend on processor, threads and libraries, and codes follow them: only hashes of one environment
    can be expected to be equal.
    """
    digest = hashlib.sha256()
    for name in sorted(q.sites):
        for key, value in sorted(q.sites[name].export().items()):
            tensor = value.detach().cpu().contiguous()
            digest.update(f"{name}|{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]
