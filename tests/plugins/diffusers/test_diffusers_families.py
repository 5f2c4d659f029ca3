"""Every family of pipelines goes through plan, run, resume and check, with what quantizes and what fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ptqbench
from ptqbench.api.check import check
from ptqbench.gate import baseline_file
from ptqbench.gate.snapshot import snapshot
from ptqbench.gate.update import first_baseline

FLOWS = {"stable-diffusion-3": "linspace", "flux": "trailing"}
TRANSFORMERS = ("dit", "pixart", *FLOWS)
FREE = ("ddpm", "ldm")
"""Families without any condition."""
TOLD = ("stable-diffusion", "stable-diffusion-xl", "pixart", *FLOWS)
"""Families that are told a text."""
EVERY = ("ddpm", "ldm-class", "dit")
"""Families, one for each kind of network, that every method fits; for others GACQ's row will do, which fits what Q-Diffusion's
does."""
RANGE = {"use": "mse", "candidates": 2}
FIT = {"use": "brecq", "iterations": 1, "batch": 2}


def recipe(kind: str) -> dict[str, Any]:
    split = [] if kind in TRANSFORMERS else ["skip-split"]
    passes = ["first-last-8bit", *split]
    flow = {"solver": "flow-euler", "grid": FLOWS[kind]} if kind in FLOWS else {}
    guided = {} if kind in FREE else {"guidance": 2.0}
    fitted = {"reconstruction": FIT, "weights": {"quantizer": "adaround", "range": RANGE}}
    steps = {"sampler": {"points": 2}, "reconstruction": FIT | {"step_iterations": 1}, "passes": passes}
    learned: dict[str, Any] = {"q-diffusion": {"method": "q-diffusion", **fitted, **steps}}
    if split:
        learned["tfmq-dm"] = {"method": "tfmq-dm", **fitted}
    methods: dict[str, Any] = {
        "nearest": {"passes": passes, "weights": {"range": RANGE}},
        **(learned if kind in EVERY else {}),
        "gacq": {**list(learned.values())[-1], "weighter": {"use": "gacq", "groups": 2, "validation": 0.25}},
    }
    return {
        "recipe": {"name": "family", "baseline": "nearest"},
        "model": {"use": "random-pipeline", "kind": kind},
        "sampling": {"steps": 2, "images": 2, **guided, **flow},
        "calibration": {"trajectories": 4, "samples": 8, "batch": 8},
        "evaluation": {"metrics": ["latent-error", "psnr", *(["branch-error"] if guided else [])], "probes": 2},
        "methods": methods,
        "sweep": {"bits": ["W4A8"]},
    }


@pytest.mark.parametrize("kind", [*FREE, "ldm-class", "dit", *TOLD])
def test_a_family_goes_through_plan_run_resume_and_check(tmp_path: Path, kind: str) -> None:
    if kind in TOLD:
        pytest.importorskip("transformers")
    wanted = recipe(kind)
    planned = ptqbench.plan(wanted, device="cpu", cache=tmp_path).forecast
    made = ptqbench.run(wanted, device="cpu", cache=tmp_path)
    cells = made.record.cells
    assert [cell.method for cell in cells] == ["full-precision", *wanted["methods"]]
    assert made.failed == {}
    assert planned.cells.keys() == {cell.id for cell in cells}
    branches = set() if kind in (*FREE, "flux") else {"eps-error.cond", "eps-error.uncond"}
    for cell in cells[1:]:
        assert {"latent-error", "psnr@fp", *branches} == set(cell.metrics)
        assert {row["weight"]["bits"] for row in cell.ledger if row["weight"]} <= {4, 8}
    assert len({cell.state_hash for cell in cells[1:]}) == len(cells) - 1

    again = ptqbench.run(wanted, device="cpu", cache=tmp_path)
    assert all(cost.cached for cell in again.record.cells for cost in cell.cost.values())
    assert again.record.protocol == made.record.protocol
    baseline_file.save(tmp_path / "baseline.toml", first_baseline(snapshot(made.record), "2026-01-01"))
    assert check(again, tmp_path / "baseline.toml", strict=True, strict_state=True).exit_code == 0
