"""Random weights of the right shape in a file, since the official ones cannot be part of a test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from inceptionkit import options_for, random_weights

from ptqbench_inception import InceptionOptions
from ptqbench_inception.features import InceptionFeatures


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("inception") / "random.pth")


@pytest.fixture(scope="session")
def options(weights: Path) -> InceptionOptions:
    return options_for(weights)


@pytest.fixture(scope="session")
def extractor(options: InceptionOptions) -> InceptionFeatures:
    features = InceptionFeatures(options)
    features.prepare(torch.device("cpu"))
    return features
