"""How precise this process's float32 is: measured, and what was set from outside to change it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ptqbench.process.overrides import overrides
from ptqbench.stage.arithmetic import arithmetic

FLOAT32 = "float32"
"""What `arithmetic_words` says where nothing is out of the ordinary."""

ENOUGH_BITS = 15
"""Products of float32 over a few hundred terms are right to about 20 bits, of operands rounded to TF32 to about 12."""

# Looked up when they are called: what stands under the name by then is what networks call as well.
_OPERATIONS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "conv2d": (lambda x, weight: F.conv2d(x, weight), ((32, 16, 8, 8), (16, 16, 3, 3))),
    "linear": (lambda x, weight: F.linear(x, weight), ((64, 256), (64, 256))),
    "matmul": (lambda x, y: x @ y, ((64, 256), (256, 64))),
    "attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), ((4, 2, 64, 16),) * 3),
}
"""What networks spend their time in, with the shapes of operands that it is tried on."""


@torch.no_grad()
def right_bits(device: torch.device) -> dict[str, int]:
    """To how many bits each kind of operation is right on a device, by float64 on the host."""
    found = {}
    for name, (operation, shapes) in _OPERATIONS.items():
        rng = torch.Generator("cpu").manual_seed(0)
        operands = [torch.randn(shape, generator=rng, dtype=torch.float32, device="cpu") for shape in shapes]
        exact = operation(*(operand.double() for operand in operands))
        error = operation(*(operand.to(device) for operand in operands)).cpu().double() - exact
        off = float(error.abs().max() / exact.abs().max())
        found[name] = 53 if off == 0 else math.floor(-math.log2(off)) if math.isfinite(off) else 0
    return found


def arithmetic_words(device: torch.device) -> str:
    """ "float32", or with what is coarser on this device, and with the environment's variables that change arithmetic."""
    return " ".join([_precision(device), *(f"{name}={value}" for name, value in overrides().items())])


@cache
def _precision(device: torch.device) -> str:
    with arithmetic():
        coarse = [f"{name} right to {bits} bits" for name, bits in right_bits(device).items() if bits < ENOUGH_BITS]
    return ", ".join([FLOAT32, *coarse])
