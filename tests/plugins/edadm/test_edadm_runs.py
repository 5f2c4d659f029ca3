"""EDA-DM through the engine: features from the denoiser, the layers' errors in the loss, the preset as a cell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, recipe
from torch import Tensor

from ptqbench.fitting.losses import per_sample_loss
from ptqbench.fitting.units import UnitFitter
from ptqbench.sampling.reference import step_features
from ptqbench.sampling.rng import stream
from ptqbench_edadm import MIDDLE_BLOCKS
from ptqbench_edadm.allocation import allocate, capped
from ptqbench_edadm.density import density, diversity, normalised, pairwise

TAP = "attention"
FIT = {"iterations": 4, "batch": 8}


def made(tmp_path: Path, bits: str = "W4A8", **changes: object):
    """The toy comparison with the preset as its only method, and its cell."""
    raw = recipe()
    sampler = {"tap": [TAP], "probe": 6, "radius_quantile": 0.5}
    raw["methods"] = {"mine": {"method": "eda-dm", "sampler": sampler, "reconstruction": FIT, **changes}}
    raw["recipe"]["baseline"] = "mine"
    ctx = context(tmp_path, experiment("model.network=plain", "calibration.samples=24", f'sweep.bits=["{bits}"]', raw=raw))
    return ctx, cell_of(ctx, "mine", bits)


def test_attention_has_eight_bits_whatever_the_other_activations_have(tmp_path: Path) -> None:
    q, _ = quantized(*made(tmp_path, "W4A4"))
    sites = {site: quantizer.spec.bits for site, quantizer in q.attentions[TAP].quantizers.items()}
    assert sites == {"q": 8, "k": 8, "v": 8, "softmax": 8}
    assert {part.activation.spec.bits for part in q.layers["up.conv"].partitions()} == {4}
    assert {q.layers[name].partitions()[0].weight.spec.bits for name in ("first", "last")} == {8}


def test_learned_rounding_is_hard_in_the_end(tmp_path: Path) -> None:
    q, _ = quantized(*made(tmp_path))
    moved = 0
    for layer in q.layers.values():
        for part in layer.partitions():
            assert part.weight.alpha is None and not part.weight.learning
            weight, codes = layer.weight[:, part.start : part.stop], part.weight.learned
            tables = part.weight.scale, part.weight.zero_point
            scale, zero = (part.weight.layout.spread(table, weight, None) for table in tables)
            nearest = (weight / scale + zero).round().clamp(0, part.weight.spec.levels.high)
            moved += int((codes != nearest).sum())
            torch.testing.assert_close(layer.baked[:, part.start : part.stop], (codes - zero) * scale, rtol=0, atol=0)
    assert moved > 20


def test_samples_follow_the_features_of_the_real_network(tmp_path: Path) -> None:
    ctx, cell = made(tmp_path)
    _, quantizer = quantized(ctx, cell)
    features = step_features(ctx, 0, TAP, 6)
    distance, angle = pairwise(features)
    between = distance[torch.ones_like(distance, dtype=torch.bool).triu(1)]
    dense = density(distance, float(between.quantile(0.5)))
    counts = capped(allocate(normalised(dense) + 1.2 * normalised(diversity(angle)), 24), 8)
    calib = quantizer.samples.calibration
    assert torch.equal(calib.step.bincount(minlength=5), counts)
    assert len(set(zip(calib.trajectory.tolist(), calib.step.tolist(), strict=True))) == 24
    assert torch.equal(calib.t, ctx.schedule.timesteps[calib.step])


def test_the_middle_of_diffusers_networks_is_found(unet: tuple, conditional_unet: tuple) -> None:
    for _, _, probe in (unet, conditional_unet):
        assert set(MIDDLE_BLOCKS) & set(probe.calls) == {"mid_block.attentions.0"}


def test_the_unit_loss_has_every_inner_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's part equals a sum over outputs of hooked layers, on inputs that are not mixed."""
    found: dict[str, tuple[dict[str, Tensor], Tensor]] = {}
    original = UnitFitter._optimise

    def optimise(self: UnitFitter, problem, weighter, unit, position, *rest) -> int:
        batch = problem.draw(8, rng=stream(0, "b"))
        parts = problem.loss_parts(batch)
        quantized_layers, full_layers = ([pair[i] for pair in problem.modules.layers.values()] for i in (0, 1))
        outputs: dict[int, Tensor] = {}
        handles = [
            module.register_forward_hook(lambda module, _, out: outputs.__setitem__(id(module), out))
            for module in (*quantized_layers, *full_layers)
        ]
        problem.modules.quantized(*batch.args, **batch.kwargs)
        args, kwargs = batch.full_inputs
        problem.modules.original(*args, **kwargs)
        for handle in handles:
            handle.remove()
        called = [module for key in outputs for module in quantized_layers if id(module) == key]
        errors = [
            per_sample_loss(outputs[id(one)], outputs[id(full_layers[quantized_layers.index(one)])], 2.0) for one in called[:-1]
        ]
        found[unit.name] = parts, 0.8 * torch.stack(errors).sum(0) if errors else torch.zeros(8)
        return original(self, problem, weighter, unit, position, *rest)

    monkeypatch.setattr(UnitFitter, "_optimise", optimise)
    quantized(*made(tmp_path))
    assert {name: set(parts) for name, (parts, _) in found.items()} == {
        "first": {"output"},
        "down": {"output", "layer-outputs"},
        "attention": {"output", "layer-outputs"},
        "up": {"output", "layer-outputs"},
        "last": {"output"},
    }
    for parts, expected in found.values():
        if "layer-outputs" in parts:
            torch.testing.assert_close(parts["layer-outputs"], expected)
            assert float(expected.detach().min()) > 0
