"""The pass `skip-split`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from quantkit import Factory, plan_for, skip_net
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Probe
from ptqbench_qdiffusion import SplitOptions
from ptqbench_qdiffusion.split import SkipSplit

ProbedUNet = tuple[nn.Module, Tensor, Probe]


@pytest.mark.parametrize("name", ["unet", "conditional_unet"])
def test_exactly_the_decoders_shortcuts_are_split(name: str, request: pytest.FixtureRequest) -> None:
    _, _, probe = request.getfixturevalue(name)
    plan = SkipSplit(SplitOptions()).apply(plan_for(probe), probe)
    split = {layer.name: layer.partitions for layer in plan.layers if layer.partitions}
    assert split == {layer.name: layer.cat for layer in probe.layers if layer.cat}
    assert split
    assert all(plan[layer].why == ("skip-split",) for layer in split)


def test_a_split_network_runs_with_two_grids() -> None:
    net, x, probe = skip_net()
    plan = SkipSplit(SplitOptions()).apply(plan_for(probe), probe)
    q = QuantizedDenoiser(net, plan, Factory(), steps=1)
    q.find_weight_grids()
    assert [(part.start, part.stop) for part in q.layers["shortcut"].partitions()] == [(0, 8), (8, 12)]
    assert torch.isfinite(q.module(x)).all()


def test_nothing_to_split_fails_unless_allowed() -> None:
    _, _, probe = skip_net()
    plain = Probe(tuple(replace(layer, cat=()) for layer in probe.layers), probe.calls)
    with pytest.raises(CellFailedError, match="no layer whose input is a concatenation"):
        SkipSplit(SplitOptions()).apply(plan_for(plain), plain)
    assert SkipSplit(SplitOptions(required=False)).apply(plan_for(plain), plain) == plan_for(plain)


def test_grouped_convolutions_stay_whole() -> None:
    _, _, probe = skip_net()
    grouped = tuple(replace(layer, weight_shape=(6, 6, 1, 1)) if layer.cat else layer for layer in probe.layers)
    with pytest.raises(CellFailedError):
        SkipSplit(SplitOptions()).apply(plan_for(probe), Probe(grouped, probe.calls))
