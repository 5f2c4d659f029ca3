"""Inception weights of the tests' own making, since the official ones cannot be part of a test."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from ptqbench_inception import InceptionOptions
from ptqbench_inception.network import build_network


def random_weights(path: Path) -> Path:
    """Write seeded weights of the right shape that keep activations of every layer at a similar size."""
    generator = torch.Generator().manual_seed(0)
    network = build_network()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
            module.weight.mul_((2.0 / module.weight[0].numel()) ** 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
        elif isinstance(module, nn.Linear):
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * 0.1)
            module.bias.fill_(torch.pi)
    torch.save(network.state_dict(), path)
    return path


def options_for(weights: Path) -> InceptionOptions:
    """The options under which a file of weights is accepted."""
    return InceptionOptions(weights=str(weights), sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
