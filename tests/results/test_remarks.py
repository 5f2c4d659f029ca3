"""What a table says of single cells beside their numbers."""

from __future__ import annotations

import pytest
from comparison_samples import one_seed

from ptqbench.quant.plan import UNSEEN_ATTENTION
from ptqbench.results.remarks import remarks


def unseen(name: str) -> dict[str, object]:
    return {"name": name, "kind": "attention", "site": UNSEEN_ATTENTION, "weight": None, "activation": None, "why": ["unseen"]}


def test_a_run_like_any_other_has_none():
    assert remarks(one_seed()) == []


def test_other_arithmetic_is_told():
    run = one_seed()
    run.protocol["arithmetic"] = "float32 NVIDIA_TF32_OVERRIDE=1"
    (said,) = remarks(run)
    assert "NVIDIA_TF32_OVERRIDE=1" in said


@pytest.mark.parametrize("names", [("mid.attn",), ("down.attn", "mid.attn")])
def test_attentions_that_no_grid_reaches_are_told_once_where_activations_are_on_grids(names):
    run = one_seed()
    for cell in run.cells[1:]:
        cell.ledger += [unseen(name) for name in names]
        for row in cell.ledger:
            row["activation"] = None
    assert remarks(run) == []
    run.cells[1].ledger[0]["activation"] = {"bits": 8, "per": "tensor", "symmetric": False, "steps": 1}
    (said,) = remarks(run)
    assert names[0] in said
