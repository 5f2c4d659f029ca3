"""Adam of the fits against torch's class, bit for bit."""

from __future__ import annotations

import torch

from ptqbench.fitting.adam import Adam


def test_steps_are_those_of_torchs_class_also_without_some_gradients() -> None:
    rng = torch.Generator().manual_seed(0)
    ours, theirs = ([torch.ones(5), torch.full((2, 3), 2.0)] for _ in range(2))
    made, reference = Adam(ours), torch.optim.Adam(theirs, fused=True)
    for i in range(6):
        rate = 0.1 / (1 + i)
        slopes = [torch.randn(5, generator=rng), None if i % 3 == 1 else torch.randn(2, 3, generator=rng)]
        before = [value.clone() for value in ours]
        made.step(slopes, rate)
        reference.param_groups[0]["lr"] = rate
        for parameter, slope in zip(theirs, slopes, strict=True):
            parameter.grad = slope
        reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert [torch.equal(a, b) for a, b in zip(ours, before, strict=True)] == [False, slopes[1] is None]


def test_without_any_gradient_nothing_moves() -> None:
    made = Adam([torch.ones(2)])
    made.step([None], 0.1)
    assert made.params[0].tolist() == [1, 1]
