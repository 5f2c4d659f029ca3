"""Step groups."""

from __future__ import annotations

import pytest
import torch

from ptqbench.quant.steps import step_group


@pytest.mark.parametrize(("steps", "groups"), [(20, 5), (5, 5), (7, 3), (10, 1)])
def test_groups_are_equal_ranges_of_steps(steps: int, groups: int) -> None:
    found = step_group(torch.arange(steps), steps, groups)
    assert found.tolist() == [min(g for g in range(groups) if s < (g + 1) * steps / groups) for s in range(steps)]
    assert found.tolist() == [step_group(s, steps, groups) for s in range(steps)]
