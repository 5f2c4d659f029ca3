"""What a table says of single cells beside their numbers."""

from __future__ import annotations

import pytest
from comparison_samples import one_seed

from ptqbench.quant.ledger import UNSEEN_ATTENTION
from ptqbench.results.cell_tables import cell_tables
from ptqbench.results.overview import overview
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


def test_prompts_that_were_seen_in_calibration_are_told():
    run = one_seed()
    run.protocol |= {"prompts": 8, "shared prompts": "8 of 8; 20 different lines keep them apart"}
    (said,) = remarks(run)
    assert "8 of 8; 20 different lines" in said


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


def test_sites_that_give_one_value_are_told_once_for_rows_that_share_them():
    run = one_seed()
    steps = run.protocol["steps"]
    first, second, third = [cell for cell in run.cells if cell.method != "full-precision"][:3]
    first.constant, second.constant = {"mid.conv input": steps}, {"mid.conv input": steps}
    third.constant = {f"up.{i} input": 2 for i in range(5)}
    shared, own = remarks(run)
    assert f"{first.method} {first.bits}, {second.method} {second.bits}: mid.conv input gives one value" in shared
    assert f"up.0 input at 2 of {steps} steps, up.1 input" in own
    assert "and 2 more give one value" in own
    assert shared in overview(run).notes
    (table,) = [table for table in cell_tables(third) if table.title.startswith("sites that give one value")]
    assert [(row[0].text, row[1].text) for row in table.rows] == [(f"up.{i} input", "2") for i in range(5)]
