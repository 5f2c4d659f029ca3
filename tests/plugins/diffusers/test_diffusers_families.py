"""Every family of pipelines goes through plan and run, guided, with what quantizes and what fits."""

from __future__ import annotations

from typing import Any

import pytest

from ptqbench.recipe.load import load_experiment
from ptqbench.running.forecast import forecast
from ptqbench.running.run import run_experiment
from ptqbench.stage.context import RunContext, Settings

FLOWS = {"stable-diffusion-3": "linspace", "flux": "trailing"}
TRANSFORMERS = ("dit", "pixart", "pixart-alpha", *FLOWS)
FIT = {"iterations": 1, "step_iterations": 1, "batch": 2}


def recipe(kind: str, **model: Any) -> dict[str, Any]:
    passes = ["first-last-8bit"] if kind in TRANSFORMERS else ["first-last-8bit", "skip-split"]
    flow = {"solver": "flow-euler", "grid": FLOWS[kind]} if kind in FLOWS else {}
    return {
        "recipe": {"name": "family", "baseline": "nearest"},
        "model": {"use": "random-pipeline", "kind": kind, **model},
        "sampling": {"steps": 2, "images": 2, "guidance": 2.0, **flow},
        "calibration": {"trajectories": 4, "samples": 8, "batch": 8},
        "evaluation": {"metrics": ["latent-error", "branch-error", "psnr"], "probes": 2},
        "methods": {
            "nearest": {"passes": passes},
            "gacq": {
                "method": "q-diffusion",
                "sampler": {"points": 2},
                "reconstruction": FIT,
                "passes": passes,
                "weighter": {"use": "gacq", "groups": 2, "validation": 0.25},
            },
        },
        "sweep": {"bits": ["W4A8"]},
    }


@pytest.mark.parametrize("kind", ["ldm-class", "dit", "stable-diffusion-xl", "pixart", "pixart-alpha", *FLOWS])
def test_a_family_goes_through_plan_and_run(tmp_path, kind):
    if kind not in ("ldm-class", "dit"):
        pytest.importorskip("transformers")
    experiment = load_experiment(recipe(kind))
    settings = Settings(tmp_path, "cpu", workers=1, threads=1)
    planned = forecast(RunContext.of(experiment, settings))
    assert set(planned.cells) >= {"nearest/W4A8/seed0", "gacq/W4A8/seed0"}
    record = run_experiment(experiment, settings, lambda *_: None, lambda _: None)
    assert [cell.status for cell in record.cells] == ["ok"] * 3, [cell.reason for cell in record.cells]
    for cell in record.cells[1:]:
        branches = set() if kind == "flux" else {"eps-error.cond", "eps-error.uncond"}
        assert {"latent-error", "psnr@fp", *branches} == set(cell.metrics)
        assert {row["weight"]["bits"] for row in cell.ledger if row["weight"]} <= {4, 8}
    states = {cell.state_hash for cell in record.cells[1:]}
    assert len(states) == 2
    again = run_experiment(experiment, settings, lambda *_: None, lambda _: None)
    assert all(cost.cached for cell in again.cells for cost in cell.cost.values())
    assert again.protocol == record.protocol
