"""TFMQ-DM as a whole: its presets, and the method from calibration to images on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, recipe, run_cell
from torch import Tensor

from ptqbench.fitting.method import has_work, make_plan
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import SITES, Plan, UnitPlan
from ptqbench.recipe.extend import merge
from ptqbench.stage.cache import Cache
from ptqbench.stage.context import RunContext
from ptqbench_tfmq import TemporalBlocksOptions
from ptqbench_tfmq.partition import TemporalBlocks

STEPS = 5
PRESETS = ("tfmq-dm", "tfmq-dm-released")
FAST = {
    "reconstruction": {"iterations": 40, "rounding_rate": 0.05, "batch": 16},
    "weights": {"range": {"candidates": 8}},
}
"""Few iterations, and a rate that lets them move the rounding of a tiny model."""


def with_method(preset: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The toy recipe with a preset as its one method."""
    raw = recipe()
    raw["recipe"]["baseline"] = "tfmq"
    raw["model"]["network"] = "unet"
    raw["methods"] = {"tfmq": {"method": preset, **(changes or {})}}
    return raw


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """The published method on the tiny UNet, shortened."""
    raw = with_method("tfmq-dm", FAST)
    return context(tmp_path_factory.mktemp("cache"), experiment('sweep.bits=["W4A8", "W4A32"]', raw=raw))


@pytest.fixture(scope="module")
def fitted(ctx: RunContext) -> QuantizedDenoiser:
    """The quantized network."""
    return quantized(ctx, cell_of(ctx, "tfmq"))[0]


def all_units(ctx: RunContext) -> list[UnitPlan]:
    return TemporalBlocks(TemporalBlocksOptions()).units(ctx.model.denoiser, ctx.probe)


def temporal_layers(ctx: RunContext) -> tuple[str, ...]:
    return all_units(ctx)[0].layers


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_is_left_to_learn_about_step_sizes(name: str) -> None:
    method = experiment(raw=with_method(name)).cells[1].method
    assert method is not None
    phases = method.reconstruction.component.load().phases
    assert [phase.name for phase in phases if has_work(phase, method)] == ["rounding"]


def test_the_plan_of_the_paper(ctx: RunContext) -> None:
    plan = make_plan(ctx.probe, cell_of(ctx, "tfmq").method)
    inside = temporal_layers(ctx)
    for layer in plan.layers:
        if layer.name in ("conv_in", "conv_out"):
            assert (layer.weight, layer.activation) == (None, None)
        else:
            assert layer.weight == QuantSpec(4, "channel")
            assert layer.activation == QuantSpec(8, steps=STEPS if layer.name in inside else 1)
    assert plan.attentions == Plan.uniform(ctx.probe, None, QuantSpec(8)).attentions


def test_the_plan_of_the_released_code(tmp_path: Path) -> None:
    raw = with_method("tfmq-dm-released", FAST)
    released = RunContext(experiment(raw=raw), Cache(tmp_path), torch.device("cpu"))
    plan = make_plan(released.probe, cell_of(released, "tfmq").method)
    full = [layer.name for layer in plan.layers if layer.weight is None]
    kept = ("conv_in", "conv_out", "time_embedding.linear_1", "conv_shortcut", "downsamplers.0.conv")
    assert full == [layer.name for layer in plan.layers if layer.name.endswith(kept)]
    assert len(full) >= 6
    inputs = [layer.name for layer in plan.layers if layer.weight is not None and layer.activation is None]
    assert inputs == ["time_embedding.linear_2", "down_blocks.0.resnets.0.conv1"]
    rest = [layer for layer in plan.layers if layer.name not in (*full, *inputs)]
    assert {layer.activation for layer in rest} == {QuantSpec(8, steps=STEPS)}
    assert plan.attentions
    assert all(attention.spec(site) is None for attention in plan.attentions for site in SITES)


def test_the_whole_method_runs(ctx: RunContext) -> None:
    for bits in ("W4A8", "W4A32"):
        record = run_cell(ctx, cell_of(ctx, "tfmq", bits))
        assert (record.status, record.reason) == ("ok", "")
        assert "reconstruct-rounding" in record.cost
        assert "reconstruct-steps" not in record.cost
        assert record.metrics["eps-error"].value > 0


def test_the_temporal_block_is_fitted_first_and_then_left_alone(ctx: RunContext, fitted: QuantizedDenoiser) -> None:
    entries = list((ctx.cache.root / "reconstruct-rounding").iterdir())
    reports = next(entry for entry in entries if (entry / "units.json").exists())
    units = all_units(ctx)
    entry = ctx.cache.entry("reconstruct-rounding", reports.name)
    assert entry.load_json("units.json")["temporal block"]["iterations"] == FAST["reconstruction"]["iterations"]
    first = entry.load_tensors("unit-000.safetensors")
    assert {key.split("|")[0] for key in first} == set(units[0].layers)
    final = fitted.export()
    assert all(torch.equal(final[key], value) for key, value in first.items())
    moved = [name for name in units[0].layers if _moved(fitted, name)]
    assert len(moved) == len(units[0].layers)


def _moved(q: QuantizedDenoiser, name: str) -> bool:
    """Whether any weight of a layer was not rounded to nearest."""
    state, weight = q.layers[name].export(), q.layers[name].weight
    scale, zero = state["w.0.scale"].reshape(-1, 1), state["w.0.zero_point"].reshape(-1, 1)
    return not torch.equal((weight / scale + zero).round().clamp(0, 15), state["w.0.codes"].float())


def test_fitting_brings_the_temporal_features_closer(ctx: RunContext, fitted: QuantizedDenoiser) -> None:
    partitioner = TemporalBlocks(TemporalBlocksOptions())
    unit = partitioner.units(ctx.model.denoiser, ctx.probe)[0]
    codes = ctx.model.denoiser.time_proj(ctx.schedule.timesteps)

    def features(denoiser: torch.nn.Module) -> Tensor:
        return torch.cat(partitioner.assemble(unit, denoiser)(codes), dim=1)

    with torch.no_grad():
        target = features(ctx.model.denoiser)
        fitted.quantize_activations(False)
        learned = (features(fitted.module) - target).square().mean()
        kept = {name: fitted.layers[name].baked for name in unit.layers}
        for name in unit.layers:
            fitted.layers[name].baked = _nearest(fitted, name)
        nearest = (features(fitted.module) - target).square().mean()
        for name, baked in kept.items():
            fitted.layers[name].baked = baked
        fitted.quantize_activations(True)
    assert float(learned) < 0.8 * float(nearest)


def _nearest(q: QuantizedDenoiser, name: str) -> Tensor:
    """A layer's weight rounded to nearest on its own grid."""
    state, weight = q.layers[name].export(), q.layers[name].weight
    scale, zero = state["w.0.scale"].reshape(-1, 1), state["w.0.zero_point"].reshape(-1, 1)
    return ((weight / scale + zero).round().clamp(0, 15) - zero) * scale


def test_sampling_uses_the_grid_of_each_step(ctx: RunContext, fitted: QuantizedDenoiser) -> None:
    table = fitted.layers[temporal_layers(ctx)[0]].export()["a.0.scale"]
    assert table.shape == (STEPS, 1)
    x, t = torch.randn(1, *ctx.model.shape, generator=torch.Generator().manual_seed(0)), ctx.schedule.timesteps[:1]
    outputs = []
    with torch.no_grad():
        for step in range(2):
            fitted.context.step = torch.tensor([step])
            outputs.append(fitted.module(x, t).sample)
    assert not torch.equal(*outputs)


def test_a_learned_weighter_works_on_the_temporal_block(tmp_path: Path) -> None:
    """Gradient-aligned calibration was published on top of this method."""
    gacq = {"weighter": {"use": "gacq", "every": 3, "validation": 0.25, "groups": 2}, "reconstruction": {"iterations": 6}}
    raw = with_method("tfmq-dm", merge(FAST, gacq))
    made = RunContext(experiment(raw=raw), Cache(tmp_path), torch.device("cpu"))
    _, quantizer = quantized(made, cell_of(made, "tfmq"))
    assert quantizer.gradient_steps == 6 * sum(1 for unit in all_units(made) if _learns(quantizer.plan, unit))
    entry = next((tmp_path / "reconstruct-rounding").iterdir())
    report = Cache(tmp_path).entry("reconstruct-rounding", entry.name).load_tensors("weighter-000.safetensors")
    assert float(report["weights"].std()) > 0


def _learns(plan: Plan, unit: UnitPlan) -> bool:
    return any(plan[name].weight is not None for name in unit.layers)
