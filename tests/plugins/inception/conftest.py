"""Random weights of the right shape in a file, since the official ones cannot be part of a test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ptqbench_inception import InceptionOptions
from ptqbench_inception.features import InceptionFeatures
from ptqbench_inception.network import build_network


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights that keep activations of every layer at a similar size."""
    path = tmp_path_factory.mktemp("inception") / "random.pth"
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


@pytest.fixture(scope="session")
def options(weights: Path) -> InceptionOptions:
    return InceptionOptions(weights=str(weights), sha256=hashlib.sha256(weights.read_bytes()).hexdigest())


@pytest.fixture(scope="session")
def extractor(options: InceptionOptions) -> InceptionFeatures:
    features = InceptionFeatures(options)
    features.prepare(torch.device("cpu"))
    return features
