"""Loss terms and presets of block reconstruction in whole cells."""

from __future__ import annotations

from pathlib import Path

import torch
from enginekit import cell_of, context, experiment, quantized

PLAIN = "model.network=plain"


def state(folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    ctx = context(folder, experiment(PLAIN, *overrides, methods=("qdiffusion",)))
    return quantized(ctx, cell_of(ctx, "qdiffusion"))[0].export()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[key], b[key]) for key in a)


def test_output_is_the_loss_of_a_recipe_that_names_none(tmp_path: Path) -> None:
    assert equal(state(tmp_path), state(tmp_path / "named", "methods.qdiffusion.losses=['output']"))


def test_fisher_and_its_released_form_fit_differently(tmp_path: Path) -> None:
    fisher = "methods.qdiffusion.losses=[{use='fisher', compat=%s}]"
    plain, paper, released = state(tmp_path), state(tmp_path, fisher % "false"), state(tmp_path, fisher % "true")
    assert not equal(plain, paper)
    assert not equal(plain, released)
    assert not equal(paper, released)
