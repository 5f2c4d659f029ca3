"""Names for tensors, bit for bit: of what quantization made of a model, and of a model's own weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ptqbench.quant.model import QuantizedDenoiser


def state_hash(q: QuantizedDenoiser) -> str:
    """Twelve hex digits of the SHA-256 over the finished codes and grids of all layers and attentions.

    The last bits of a sum depend on processor, threads and libraries, and codes follow them: only hashes of one environment
    can be expected to be equal.
    """
    sites = ((name, sorted(q.sites[name].export().items())) for name in sorted(q.sites))
    return _sha256((f"{name}|{key}", value) for name, state in sites for key, value in state)[:12]


def weights_hash(module: nn.Module) -> str:
    """SHA-256 (hex) over names, types, shapes and values of a module's parameters and persistent buffers."""
    return _sha256(sorted(module.state_dict().items()))


def _sha256(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, value in tensors:
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes first: numpy does not know all of torch's types.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
