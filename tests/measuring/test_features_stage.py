"""Features as a cached stage, and real images from files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from enginekit import cell_of, context, experiment, files, run_cell, values
from PIL import Image

from ptqbench.errors import UserError
from ptqbench.evaluate import distances
from ptqbench.measuring.features import check_metrics
from ptqbench.results.record import CellRecord
from ptqbench.running.cell import cell_key
from ptqbench.running.run import protocol, run_experiment
from ptqbench.stage.context import RunContext, Settings

PLAIN = ("model.network=plain", "sampling.images=12")
METRICS = (
    'evaluation.metrics=["psnr", "psnr-median", "class-changed", "fd", "kid", "precision-recall", '
    '{use="inception-score", splits=2}]'
)


def made(cache: Path, *overrides: str) -> RunContext:
    """The round-to-nearest comparison on the plain network."""
    return context(cache, experiment(*PLAIN, *overrides, methods=("nearest",)))


def both(ctx: RunContext) -> list[CellRecord]:
    """Full precision and round to nearest."""
    return [run_cell(ctx, cell) for cell in ctx.experiment.cells]


def real(count: int = 32, size: int = 8, seed: int = 1) -> np.ndarray:
    """Grey images (count, size, size, 1); those of seed 1 are the toy model's own."""
    drawn = torch.randint(0, 256, (count, 1, size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return drawn.permute(0, 2, 3, 1).numpy()


def folder_of(path: Path, images: np.ndarray) -> Path:
    """The images as PNG files."""
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[:, :, 0]).save(path / f"{i:03}.png")
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CellRecord]]:
    """A cache, and the records of the comparison with all metrics that the toy features serve."""
    cache = tmp_path_factory.mktemp("features")
    return cache, both(made(cache, METRICS))


def test_every_metric_gives_a_number(found):
    full, nearest = found[1]
    assert (full.status, nearest.status) == ("ok", "ok"), nearest.reason
    assert list(full.metrics) == ["fd-toy@data", "kid-toy@data", "precision-toy@data", "recall-toy@data", "is-toy"]
    assert list(nearest.metrics) == [
        "psnr@fp",
        "psnr-median@fp",
        "class-changed-toy@fp",
        "fd-toy@data",
        "fd-toy@fp",
        *list(full.metrics)[1:],
    ]
    assert "features" in nearest.cost


@pytest.mark.parametrize("batch", [1, 5, 12])
def test_sharding_changes_no_number(found, tmp_path, batch):
    for ours, theirs in zip(both(made(tmp_path, METRICS, f"sampling.batch={batch}")), found[1], strict=True):
        first, second = values(ours), values(theirs)
        assert first.keys() == second.keys()
        for name in first:
            assert first[name] == pytest.approx(second[name], rel=1e-5, abs=1e-6), name


def test_features_are_computed_once_and_shared(found, monkeypatch):
    """Another metric on the same output needs no features anew; another output is added beside it."""
    cache, _ = found
    before = files(cache, "features/*/pool.safetensors")
    # Three parts of generated images for each cell, one part of the real ones.
    assert len(before) == 2 * 3 + 1
    ctx = made(cache, 'evaluation.metrics=["kid"]')
    extractor = ctx.experiment.evaluation.features.component.load()
    monkeypatch.setattr(extractor, "extract", lambda self, images: pytest.fail("computed again"))
    assert {record.status for record in both(ctx)} == {"ok"}
    assert files(cache, "features/*/pool.safetensors") == before


def test_what_a_reference_is_compared_by_is_computed_once(found, tmp_path, monkeypatch):
    """Its moments and roots, for all cells and for the next run; the numbers are those of computing them each time."""
    monkeypatch.setattr("ptqbench.measuring.features.KEPT_WIDTH", 1)
    roots = []
    real = distances._square_root
    monkeypatch.setattr(distances, "_square_root", lambda matrix: roots.append(matrix) or real(matrix))
    first = both(made(tmp_path, METRICS))
    assert [values(record) for record in first] == [values(record) for record in found[1]]
    assert len(roots) == 1 + 1 + 12  # real images; full precision with all its images, and without each block
    shutil.rmtree(tmp_path / "cells")
    assert [values(record) for record in both(made(tmp_path, METRICS))] == [values(record) for record in first]
    assert len(roots) == 14


def test_another_recipe_shares_images_and_features_of_full_precision(found, monkeypatch):
    """What other methods, bits and metrics a recipe has is no part of their names."""
    ctx = context(found[0], experiment(*PLAIN, 'evaluation.metrics=["fd", "eps-error"]', 'sweep.bits=["W8A8"]'))
    monkeypatch.setattr(type(ctx.extractor), "extract", lambda self, images: pytest.fail("computed again"))
    before = files(found[0], "images/*/*")
    full = next(cell for cell in ctx.experiment.cells if cell.method is None)
    assert run_cell(ctx, full).metrics.keys() == {"fd-toy@data"}
    assert files(found[0], "images/*/*") == before


def test_no_metric_on_features_means_no_extractor(tmp_path, monkeypatch):
    ctx = made(tmp_path, 'evaluation.metrics=["psnr"]')
    extractor = ctx.experiment.evaluation.features.component.load()
    monkeypatch.setattr(extractor, "prepare", lambda self, device: pytest.fail("prepared"))
    monkeypatch.setattr(extractor, "fingerprint", lambda self: pytest.fail("asked for weights"))
    assert [record.status for record in both(ctx)] == ["ok", "ok"]
    assert files(tmp_path, "features/*/*") == {}


@pytest.mark.parametrize("kind", ["folder", "stored", "compressed"])
def test_a_reference_in_files_gives_the_numbers_of_the_same_images(found, tmp_path, kind):
    path = tmp_path / "real.npz"
    if kind == "folder":
        path = folder_of(tmp_path / "real", real())
    else:
        (np.savez if kind == "stored" else np.savez_compressed)(path, real())
    records = both(made(tmp_path / "cache", METRICS, f"evaluation.reference={path}"))
    assert [values(record) for record in records] == [values(record) for record in found[1]]


def test_ready_made_statistics_give_the_same_distance_and_no_other_number(found, tmp_path):
    matrix = torch.randn(64, 4, generator=torch.Generator().manual_seed(2)) / 8
    rows = (torch.from_numpy(real()).flatten(1).float() / 255 @ matrix).double().numpy()
    np.savez(tmp_path / "statistics.npz", mu=rows.mean(axis=0), sigma=np.cov(rows, rowvar=False))
    given = (f"evaluation.reference={tmp_path / 'statistics.npz'}", 'evaluation.metrics=["fd"]')
    full, nearest = both(made(tmp_path / "cache", *given))
    assert nearest.metrics["fd-toy@data"].value == pytest.approx(found[1][1].metrics["fd-toy@data"].value, rel=1e-6)
    assert full.status == "ok"
    pairwise = made(tmp_path / "cache", given[0], 'evaluation.metrics=["kid"]')
    refused = run_cell(pairwise, cell_of(pairwise, "nearest"))
    assert refused.status == "failed"
    assert "holds no images" in refused.reason


@pytest.mark.parametrize("metric", ['"kid"', '{use="kid", reference="both"}', '"precision-recall"'])
def test_a_metric_that_needs_real_images_is_refused_before_anything_is_computed(tmp_path, metric):
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(4), sigma=np.eye(4))
    reference = f"evaluation.reference={tmp_path / 'statistics.npz'}"
    with pytest.raises(UserError, match="has neither images nor statistics that would do") as caught:
        check_metrics(made(tmp_path / "cache", reference, f"evaluation.metrics=[{metric}]"))
    assert 'reference = "fp"' in caught.value.hint
    check_metrics(made(tmp_path / "cache", reference, 'evaluation.metrics=["fd", "psnr", {use="kid", reference="fp"}]'))


def test_statistics_of_other_features_are_refused(tmp_path):
    path = tmp_path / "statistics.npz"
    for arrays, said in (
        ({"mu": np.zeros(2048), "sigma": np.eye(2048)}, r"mu is \(2048,\), but the recipe's features need \(4,\)"),
        ({"mu": np.zeros(4), "sigma": np.eye(3)}, "sigma is"),
        ({"mu": np.full(4, np.nan), "sigma": np.eye(4)}, "not finite"),
    ):
        np.savez(path, **arrays)
        os.utime(path, ns=(0, len(said)))
        ctx = made(tmp_path / "cache", f"evaluation.reference={path}")
        assert re.search(said, run_cell(ctx, ctx.experiment.cells[0]).reason)


def test_the_content_of_a_reference_is_part_of_a_cell_s_key(tmp_path):
    folder = folder_of(tmp_path / "real", real())

    def key() -> tuple[str, str]:
        ctx = made(tmp_path / "cache", f"evaluation.reference={folder}")
        return cell_key(ctx, ctx.experiment.cells[0]), protocol(ctx)["real images sha256"]

    before = key()
    assert before == key()
    assert before[0] != cell_key(made(tmp_path / "cache"), made(tmp_path / "cache").experiment.cells[0])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "000.png")
    assert all(a != b for a, b in zip(before, key(), strict=True))


@pytest.mark.parametrize(("images", "said"), [(real(8, 9), "is 9x9 L, the model gives 8x8 L"), (None, "there is no folder")])
def test_a_reference_of_another_size_or_none_ends_the_run(tmp_path, images, said):
    path = tmp_path / "real"
    if images is not None:
        folder_of(path, images)
    given = experiment(*PLAIN, f"evaluation.reference={path}", methods=("nearest",))
    with pytest.raises(UserError, match=said):
        run_experiment(given, Settings(tmp_path / "cache", "cpu", 1, 1), lambda *_: None, lambda _: None)


def test_real_images_of_a_model_must_have_its_size_too(tmp_path, monkeypatch):
    ctx = made(tmp_path)
    monkeypatch.setattr(type(ctx.source), "reference_images", lambda self: torch.zeros(9, 1, 4, 4, dtype=torch.uint8))
    record = run_cell(ctx, ctx.experiment.cells[0])
    assert "real images are (1, 4, 4), but it generates (1, 8, 8)" in record.reason


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ('["sfid"]', "reads the output 'spatial', and the features \"toy\" have pool"),
        ('["fd", "fid"]', "both give the column"),
    ],
)
def test_metrics_that_do_not_fit_the_features_are_refused_before_the_run(tmp_path, metrics, said):
    with pytest.raises(UserError, match=said):
        check_metrics(made(tmp_path, f"evaluation.metrics={metrics}"))


def test_features_without_classes_have_no_class_to_change(tmp_path, monkeypatch):
    ctx = made(tmp_path, 'evaluation.metrics=["class-changed"]')
    check_metrics(ctx)
    monkeypatch.setattr(type(ctx.extractor), "outputs", lambda self: {"pool": 4})
    with pytest.raises(UserError, match="reads the output 'probabilities', and the features \"toy\" have pool"):
        check_metrics(ctx)


@pytest.mark.parametrize(
    ("metric", "images", "least"),
    [('"fd"', 4, 5), ('"kid"', 2, 3), ('{use="kid", subset=4}', 7, 8)],
)
def test_a_metric_that_needs_more_images_is_refused_before_anything_is_computed(tmp_path, metric, images, least):
    def given(images):
        small = (f"sampling.images={images}", "evaluation.probes=2", f"evaluation.metrics=[{metric}]")
        return experiment(*PLAIN, *small, methods=("nearest",))

    with pytest.raises(UserError, match=f"needs at least {least} images, and the recipe generates {images} ") as refused:
        run_experiment(given(images), Settings(tmp_path, "cpu", 1, 1), lambda *_: None, lambda _: pytest.fail("started"))
    assert refused.value.exit_code == 2
    assert f"sampling.images={least}" in refused.value.hint
    assert files(tmp_path) == {}
    enough = context(tmp_path, given(least))
    check_metrics(enough)
    assert [record.status for record in both(enough)] == ["ok", "ok"]


def test_an_extractor_that_breaks_its_word_fails_the_cell(tmp_path, monkeypatch):
    ctx = made(tmp_path)
    extractor = ctx.experiment.evaluation.features.component.load()
    monkeypatch.setattr(extractor, "extract", lambda self, images: {"pool": torch.zeros(len(images), 3)})
    assert "gave no probabilities" in run_cell(ctx, ctx.experiment.cells[0]).reason
