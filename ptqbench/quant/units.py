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


def outermost_blocks(
    denoiser: nn.Module, probe: Probe, classes: Collection[str], taken: Collection[str] = ()
) -> list[tuple[str, tuple[str, ...]]]:
    """Modules of these classes with the layers inside them, and every other layer alone, by the first call of each.

    Of nested blocks the outermost owns all layers. Layers in `taken` belong elsewhere and appear nowhere. Raises
    `CellFailedError` if no block of these classes was executed.
    """
    kinds = {name: type(module).__name__ for name, module in denoiser.named_modules()}
    free = dict.fromkeys(layer.name for layer in probe.layers if layer.name not in taken)
    found: list[tuple[str, tuple[str, ...]]] = []
    blocks = 0
    for name in probe.calls:
        # Callers enter before callees, so the first block seen around a layer is the outermost one.
        owned: tuple[str, ...]
        if name in free:
            owned = (name,)
        elif kinds.get(name) in classes:
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
