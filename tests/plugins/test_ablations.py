"""What a method adds, switched off, is the simpler method bit for bit: whole cells on the toy model.

Each case also says with which switch the two differ, so that no equality is for want of an effect. Elsewhere: GACQ with
scores that do not move against weights of one (tests/fitting/test_weighting.py), QDrop with nothing dropped against plain joint
reconstruction (tests/plugins/qdrop/test_qdrop.py), PTQD with every part off (tests/plugins/ptqd/test_ptqd_method.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, recipe

Table = dict[str, Any]


@dataclass(frozen=True)
class Ablation:
    """Changes to the toy recipe's method: `off` equals `simple`, `on` does not.

    `setting` overrides the recipe for all three, `off_setting` for the first two where the switch lies in the experiment.
    """

    off: Table
    simple: Table
    on: Table
    setting: tuple[str, ...] = ("model.network=plain",)
    off_setting: tuple[str, ...] = ()


def weighed(off: Table, on: Table) -> Ablation:
    """A weighter whose switch makes all weights equal."""
    return Ablation({"weighter": off}, {"weighter": "uniform"}, {"weighter": on})


LOST = 1e-30
"""A rate, or a power, whose effect is lost in rounding: what learns stays where it started."""

ENDS = "first-last-8bit"
EVERY_STEP = {"sampler": {"use": "stride", "points": "all"}}
NEAREST = {"reconstruction": "none", "weights": {"quantizer": "nearest"}, "activations": {"quantizer": "affine"}}
FIXED = {"activations": {"quantizer": "affine"}}
TABLES = {"activations": {"quantizer": "affine", "steps": "each"}}


def tdq(rate: float) -> Table:
    """Step sizes from a network, on the scales that were observed at each step."""
    return {"activations": {"quantizer": {"use": "tdq", "base": "each"}, "steps": "each"}, **steps_at(rate)}


def steps_at(rate: float) -> Table:
    return {"reconstruction": {"step_rate": rate}}


def bands(gamma: float = 1.0, **options: Any) -> Table:
    """Weights of bands alone, learned on validation samples."""
    learned = {"use": "sample-frequency", "learn": "frequencies", "validation": 0.25, "groups": 2, "every": 3, **options}
    return {"weighter": learned, "losses": ["output", {"use": "haar", "gamma": gamma}]}


def layers(factor: float) -> Table:
    return {"losses": ["output", {"use": "layer-outputs", "factor": factor}]}


def fisher(compat: bool) -> Table:
    return {"losses": [{"use": "fisher", "compat": compat}]}


ABLATIONS = {
    "the loss of a recipe that names none": Ablation({"losses": ["output"]}, {}, fisher(False)),
    "fisher as its paper has it": Ablation(fisher(False), {"losses": ["fisher"]}, fisher(True)),
    "layer-outputs times nothing": Ablation(layers(0.0), {"losses": ["output"]}, layers(0.8)),
    "sample-frequency without bands": Ablation(bands(gamma=0.0), {"weighter": "validated-ones"}, bands()),
    "sample-frequency whose bands stand still": Ablation(
        bands(frequency_rate=LOST), {"weighter": "validated-ones", "losses": ["output", "haar"]}, bands(frequency_rate=0.2)
    ),
    "late counts its samples once": weighed({"use": "late", "factor": 1.0}, {"use": "late", "factor": 20.0}),
    "early counts its samples once": weighed({"use": "early", "factor": 1.0}, {"use": "early", "factor": 20.0}),
    "random without spread": weighed({"use": "random", "spread": 0.0}, {"use": "random", "spread": 2.0}),
    "inverse-error to the power of nothing": weighed(
        {"use": "inverse-error", "power": LOST}, {"use": "inverse-error", "power": 2.0}
    ),
    "finite-set with a single sampling step": Ablation(
        {**EVERY_STEP, **NEAREST, "passes": [ENDS, "finite-set"]},
        {**EVERY_STEP, **NEAREST, "passes": [ENDS]},
        {**EVERY_STEP, **NEAREST, "passes": [ENDS, "finite-set"]},
        setting=("model.network=unet",),
        off_setting=("model.network=unet", "sampling.steps=1", "calibration.samples=8", "methods.base.sampler=random"),
    ),
    "finite-set at every layer is a table for each step": Ablation(
        {**EVERY_STEP, **NEAREST, "passes": [ENDS, {"use": "finite-set", "compat": True}]},
        {**EVERY_STEP, **NEAREST, "passes": [ENDS], **TABLES},
        {**EVERY_STEP, **NEAREST, "passes": [ENDS, "finite-set"]},
        setting=("model.network=unet",),
    ),
    "skip-split without a skip": Ablation(
        {"passes": [ENDS, {"use": "skip-split", "required": False}]},
        {"passes": [ENDS]},
        {"passes": [ENDS, "skip-split"]},
        off_setting=("model.network=straight",),
    ),
    "tdq whose network stands still": Ablation(tdq(LOST), TABLES, tdq(0.01)),
    "lsq whose steps stand still": Ablation(steps_at(LOST), FIXED, steps_at(0.01)),
    "adaround whose rounding stands still": Ablation(
        {"reconstruction": {"rounding_rate": LOST}, **FIXED}, NEAREST, {"reconstruction": {"rounding_rate": 0.05}, **FIXED}
    ),
}


def state(folder: Path, table: Table, overrides: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The quantized network of the toy recipe's method with these changes."""
    raw = recipe()
    raw["methods"] = {"base": raw["methods"]["qdiffusion"], "mine": {"extends": "base", **table}}
    raw["recipe"]["baseline"] = "base"
    ctx = context(folder, experiment(*overrides, raw=raw))
    return quantized(ctx, cell_of(ctx, "mine"))[0].export()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("case", ABLATIONS.values(), ids=ABLATIONS)
def test_switched_off_it_is_the_simpler_method_bit_for_bit(tmp_path: Path, case: Ablation) -> None:
    # A cache for each: equal plans have equal keys, and what one had computed would be read for the other.
    off, simple = tmp_path / "off", tmp_path / "simple"
    setting = case.off_setting or case.setting
    assert equal(state(off, case.off, setting), state(simple, case.simple, setting))
    assert not equal(state(off, case.on, case.setting), state(simple, case.simple, case.setting))
