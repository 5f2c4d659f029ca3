"""From a network's blocks to units of layers, for partitioners. No torch, so that entry points may read the default names."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ptqbench.errors import CellFailedError

if TYPE_CHECKING:
    from torch import nn

    from ptqbench.quant.plan import Probe

BLOCK_CLASSES = (
    "ResnetBlock2D",
    "Attention",
    "BasicTransformerBlock",
    "ResnetBlock",
    "AttnBlock",
    "ResBlock",
    "AttentionBlock",
)
"""The blocks of diffusers' UNets, of the DDPM UNet for CIFAR-10, and of the latent-diffusion UNet."""

TRANSFORMER_BLOCK = "BasicTransformerBlock"
"""Stands for every module that is built like it, with an attention among its parts: blocks of Stable Diffusion 3, of Flux."""

PROJECTIONS = ("to_q", "to_k", "to_v")
"""What diffusers, and most who follow it, call the layers that make queries, keys and values."""


def attends(module: nn.Module) -> bool:
    """Whether a module is an attention, by its layers."""
    return all(hasattr(module, layer) for layer in PROJECTIONS)


def outermost_blocks(
    denoiser: nn.Module, probe: Probe, classes: Collection[str], taken: Collection[str] = ()
) -> list[tuple[str, tuple[str, ...]]]:
    """Modules of these classes with the layers inside them, and every other layer alone, by the first call of each.

    `TRANSFORMER_BLOCK` among them means every block of a transformer. Of nested blocks the outermost owns all layers. Layers in
    `taken` belong elsewhere and appear nowhere. Raises `CellFailedError` if no block of these classes was executed.
    """
    wanted = {name for name, module in denoiser.named_modules() if _is_block(module, classes)}
    free = dict.fromkeys(layer.name for layer in probe.layers if layer.name not in taken)
    found: list[tuple[str, tuple[str, ...]]] = []
    blocks = 0
    for name in probe.calls:
        # Callers enter before callees, so the first block seen around a layer is the outermost one.
        owned: tuple[str, ...]
        if name in free:
            owned = (name,)
        elif name in wanted:
            owned = tuple(layer for layer in free if layer.startswith(f"{name}."))
            blocks += bool(owned)
        else:
            continue
        if owned:
            found.append((name, owned))
        for layer in owned:
            del free[layer]
    if not blocks:
        raise CellFailedError(
            f"the denoiser executes no block of the classes {', '.join(classes)}",
            "name its block classes in the option `blocks`, or use the partitioner `layers`",
        )
    return found


def _is_block(module: nn.Module, classes: Collection[str]) -> bool:
    return type(module).__name__ in classes or (TRANSFORMER_BLOCK in classes and any(map(attends, module.children())))
