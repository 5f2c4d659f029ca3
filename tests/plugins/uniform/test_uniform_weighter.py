"""The weighter `uniform`."""

from __future__ import annotations

from typing import cast

import torch

from ptqbench.plugin.component import NoOptions
from ptqbench.roles.weighter import Batch, InnerProblem
from ptqbench_uniform.weighter import UniformWeighter


def test_weights_are_exactly_one() -> None:
    problem = cast(InnerProblem, None)  # it is not looked at
    for dtype in (torch.float32, torch.float64):
        target = torch.zeros(5, 2, dtype=dtype)
        batch = Batch(torch.arange(5), torch.zeros(5, dtype=torch.int64), (), {}, (target,), seed=0)
        weights = UniformWeighter(NoOptions()).weights(batch, problem)
        assert torch.equal(weights, torch.ones(5, dtype=dtype))
        assert not weights.requires_grad
