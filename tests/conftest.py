"""Fixtures shared by all tests: small random UNets as diffusers builds them, one cache of the toy comparison."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# What takes seconds to import is imported by who computes: the process that hands tests out to others does not.
if TYPE_CHECKING:
    import torch

    from ptqbench.quant.plan import Probe
    from ptqbench.stage.context import RunContext

    ProbedUNet = tuple[torch.nn.Module, torch.Tensor, Probe]

# One thread, here and in processes that tests start: the networks are tiny, and threads that wait for each other on few cores
# cost many times what they bring. Set before torch is imported, since that is when it is read.
os.environ["OMP_NUM_THREADS"] = "1"
# Tests ask for tracebacks themselves, and assert that there are none where they did not.
os.environ.pop("PTQBENCH_TRACEBACK", None)
# Until tests are collected nothing is garbage: looking for some takes a quarter of that time.
gc.disable()


def pytest_collection_finish() -> None:
    # What was imported stays: nobody need look through it again for garbage.
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def unet() -> ProbedUNet:
    """An unconditional UNet with attention, its input (2, 3, 16, 16), and its probe."""
    import torch
    from diffusers import UNet2DModel

    from ptqbench.quant.probe import probe_denoiser

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
    ).eval()
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([7, 700])
    return net, x, probe_denoiser(net, lambda: net(x, t), x)


@pytest.fixture(scope="session")
def conditional_unet() -> ProbedUNet:
    """A UNet with cross-attention, its input (2, 4, 8, 8), and its probe."""
    import torch
    from diffusers import UNet2DConditionModel

    from ptqbench.quant.probe import probe_denoiser

    torch.manual_seed(0)
    net = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=4,
        attention_head_dim=4,
    ).eval()
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor([7, 700]), torch.randn(2, 5, 8)
    return net, x, probe_denoiser(net, lambda: net(x, t, text), x)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests share, those of all processes of a session."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache"


@pytest.fixture(scope="session")
def ctx(cache: Path) -> RunContext:
    """The toy comparison on diffusers' UNet, at W4A32 and W4A8."""
    from enginekit import context, experiment

    return context(cache, experiment('sweep.bits=["W4A32", "W4A8"]'))
