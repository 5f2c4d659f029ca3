"""The known traps of image metrics, one test or more for each: it is refused with a remedy, or it cannot occur.

The letters are those of the table in docs/statistics.md. "Cannot occur" is shown, not asserted.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from enginekit import cell_of, context, experiment, run_cell
from metrickit import evidence_of, number
from PIL import Image

import ptqbench
from ptqbench.errors import CellFailedError, UserError
from ptqbench.evaluate.distances import frechet_distance
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.moments import Gaussian
from ptqbench.evaluate.pictures import open_pictures
from ptqbench.measuring import protocol
from ptqbench.measuring.features import check_metrics, feature_info
from ptqbench.measuring.measure import Measurement
from ptqbench.results.protocols import mismatch, refused
from ptqbench.results.record import CellRecord, Number, RunRecord
from ptqbench.results.rows import rows_of
from ptqbench.sampling.images import full_precision_chunks
from ptqbench.sampling.rng import stream
from ptqbench.sampling.sample import sample, to_bytes
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext
from ptqbench_inception import InceptionOptions
from ptqbench_inception.features import InceptionFeatures
from ptqbench_metrics.score import score

ROOT = Path(ptqbench.__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


def made(cache: Path, *overrides: str) -> RunContext:
    """Full precision and round to nearest on the toy model."""
    return context(cache, experiment("model.network=plain", "sampling.images=12", *overrides, methods=("nearest",)))


def protocol_id(ctx: RunContext, n: int = 12) -> str:
    """The protocol id of the recipe's first metric."""
    chosen = ctx.experiment.evaluation.metrics[0]
    return protocol.protocol_id(ctx, chosen, chosen.create(), n)


# A. Class-ordered images in consecutive splits.


def test_a_class_ordered_images_have_the_score_of_shuffled_ones() -> None:
    """Forty images of each of ten classes in order: consecutive splits score 1 instead of about 10."""
    ordered = torch.eye(10, dtype=torch.float64).repeat_interleave(40, dim=0)
    assert np.mean([score(part) for part in ordered.tensor_split(10)]) == pytest.approx(1.0)
    shuffled = ordered[torch.randperm(400, generator=stream(0, "test"))]
    found = [number("inception-score", evidence_of(probabilities=rows)) for rows in (ordered, shuffled)]
    assert found[0].value == pytest.approx(found[1].value, rel=0.05)
    assert found[0].value > 8


def test_a_splits_smaller_than_the_number_of_classes_are_refused() -> None:
    with pytest.raises(CellFailedError, match="99 images in 10 splits are fewer per split than the 10 classes") as caught:
        number("inception-score", evidence_of(probabilities=torch.eye(10).repeat(10, 1)[:99].double()))
    assert "generate at least 100 images (sampling.images), set fewer splits" in caught.value.hint


# B. A range mapping that is applied twice, or another one than the reference's.


@pytest.mark.parametrize("decode", [lambda x: (x.clamp(-1, 1) + 1) / 2, lambda x: (x.clamp(-1, 1) + 1) * 127.5])
def test_b_images_that_were_mapped_already_are_refused(tmp_path, decode) -> None:
    ctx = made(tmp_path, "sampling.batch=12")
    ctx.model.decode = decode
    with pytest.raises(UserError, match="none below 0: expected is -1 to 1, so their range was mapped already") as caught:
        full_precision_chunks(ctx).part(0)
    assert "let the model's decode() return images in [-1, 1]" in caught.value.hint


def test_b_real_images_of_another_type_than_8_bit_are_refused(tmp_path, monkeypatch) -> None:
    ctx = made(tmp_path)
    monkeypatch.setattr(type(ctx.source), "reference_images", lambda self: torch.rand(32, 1, 8, 8))
    reason = run_cell(ctx, ctx.experiment.cells[0]).reason
    assert "float32, not uint8" in reason
    assert "return uint8 from reference_images()" in reason


def test_b_the_one_mapping_is_the_one_that_the_protocol_names(tmp_path, monkeypatch) -> None:
    assert protocol.CONVERSION == "clamp to [-1, 1], (x + 1) * 127.5, round half to even, uint8"
    x = torch.linspace(-1.2, 1.2, 4001)
    expected = np.rint((np.clip(x.numpy(), -1, 1) + np.float32(1)) * np.float32(127.5)).astype(np.uint8)
    assert torch.equal(to_bytes(x), torch.from_numpy(expected))
    before = protocol_id(made(tmp_path))
    monkeypatch.setattr(protocol, "CONVERSION", "127.5 x + 128")
    assert protocol_id(made(tmp_path)) != before


# C. The number of images.


def test_c_too_few_images_for_the_covariance_are_refused() -> None:
    x = torch.randn(64, 64, generator=stream(0, "test"), dtype=torch.float64)
    with pytest.raises(
        CellFailedError, match="64 images are too few: this distance on 64 features needs at least 65"
    ) as caught:
        frechet_distance(x, x)
    assert "sampling.images = 65 or more" in caught.value.hint


def test_c_numbers_of_other_counts_do_not_stand_side_by_side(tmp_path) -> None:
    ctx = made(tmp_path)
    reason = mismatch(protocol_id(ctx, n=5_000), protocol_id(ctx, n=50_000))
    assert "measured under another protocol" in reason
    assert "run both under one recipe" in reason


# D. The reference.


def test_d_another_reference_is_another_protocol_and_refused(tmp_path) -> None:
    """Training images, validation images, a batch of ten thousand: the content decides, not the name."""
    ids = []
    for seed, name in enumerate(("train", "validation")):
        path = tmp_path / name / "real.npz"
        path.parent.mkdir()
        np.savez(path, np.random.default_rng(seed).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8))
        fd = 'evaluation.metrics=["fd"]'
        ids.append(protocol_id(made(tmp_path / "cache", f"evaluation.reference={path}", fd)))
    assert "measured under another protocol" in mismatch(*ids)
    cells = {
        i: [CellRecord("", "", "", "", 0, "ok", metrics={"fd": Number(1, 0, 2, 9, protocol=x)})] for i, x in enumerate(ids)
    }
    assert list(refused("fd", cells, 0)) == [1]


# E. Resizing.


def test_e_nothing_is_resized_and_other_sizes_are_refused(tmp_path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="is 9x9 L, the model gives 8x8 L") as caught:
        open_pictures(tmp_path, (1, 8, 8), "evaluation.reference").part(0)
    assert "prepare a copy at the model's size; nothing is resized here" in caught.value.hint


# F. Lossy files.


@pytest.mark.parametrize("name", ["b.jpg", "deep/b.JPEG", "b.webp"])
def test_f_files_of_lossy_formats_are_refused(tmp_path, name) -> None:
    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    for file in ("a.png", name):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        picture.convert("RGB").save(tmp_path / file)
    with pytest.raises(UserError, match=r"1 files of a lossy format, such as b.*: compression moves every metric") as caught:
        open_pictures(tmp_path, (3, 8, 8), "evaluation.reference")
    assert "keep the pixels as png files or as arr_0 in an .npz file" in caught.value.hint


# G. Inception's weights, and other features.


def test_g_a_file_with_another_hash_is_refused(tmp_path) -> None:
    (tmp_path / "inception.pth").write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"its SHA-256 is .*, expected 6726825d.*broken download") as caught:
        InceptionFeatures(InceptionOptions(weights=str(tmp_path / "inception.pth"))).fingerprint()
    assert "download https://" in caught.value.hint
    assert "accept this file under another name than FID" in caught.value.hint


@pytest.mark.parametrize("name", ["fid@data", "sFID@fp", "KID@data", "is"])
def test_g_a_published_name_on_other_features_is_refused(tmp_path, monkeypatch, name) -> None:
    ctx = made(tmp_path, 'evaluation.metrics=["fd"]')
    metric = ctx.experiment.evaluation.metrics[0].component.load()
    monkeypatch.setattr(metric, "names", lambda self, extractor: [name])
    with pytest.raises(UserError, match=f'gives the column {name}, but the features "toy" are not Inception\'s') as caught:
        check_metrics(ctx)
    assert 'or choose features = "inception"' in caught.value.hint


# H. The matrix root.


def test_h_singular_covariances_give_a_real_distance_without_a_matrix_root() -> None:
    """Covariances of rank 3 in 40 dimensions, in general position: the exact distance is known from the small factors."""
    a, b = (torch.randn(40, 3, generator=stream(s, "test"), dtype=torch.float64) for s in (0, 1))
    zero = torch.zeros(40, dtype=torch.float64)
    cross = torch.linalg.svdvals(a.T @ b).sum()
    expected = float(a.square().sum() + b.square().sum() - 2 * cross)
    first, second = (FeatureSet(None, 40, Gaussian(zero, x @ x.T)) for x in (a, b))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-6)


def test_h_no_code_takes_scipy_s_matrix_root() -> None:
    assert not [path for path in sources() if "sqrtm" in path.read_text(encoding="utf-8")]


# I. The sampler's settings.


@pytest.mark.parametrize("change", ["sampling.eta=1.0", "sampling.steps=10", 'sampling.grid="quad"'])
def test_i_another_sampler_is_another_protocol_and_refused(tmp_path, change) -> None:
    ids = [protocol_id(made(tmp_path, *more)) for more in ((), (change,))]
    assert "measured under another protocol" in mismatch(*ids)


# J. A wrong set-up that still yields a number.


def test_j_a_cell_in_which_nothing_was_quantized_fails(tmp_path) -> None:
    ctx = made(tmp_path)
    untouched = Measurement(ctx, cell_of(ctx, "nearest"), Costs(), ctx.predictor(), "untouched")
    with pytest.raises(
        CellFailedError, match="predicts exactly what full precision predicts: nothing in it was quantized"
    ) as caught:
        untouched.numbers(lambda *_: None)
    assert "ptqbench plan RECIPE --cell ID" in caught.value.hint


def test_j_a_reference_that_collapsed_is_refused() -> None:
    """Weights that are all zero, or a model that draws one image only, make every reference feature equal."""
    x = torch.randn(40, 4, generator=stream(0, "test"), dtype=torch.float64)
    for constant in (0.0, 1e3 / 7):
        with pytest.raises(CellFailedError, match="all reference images have the same features") as caught:
            frechet_distance(x, torch.full((40, 4), constant, dtype=torch.float64))
        assert "the extractor's weights" in caught.value.hint


def test_j_full_precision_is_measured_in_every_run() -> None:
    """The row that shows a wrong set-up first: nobody can leave it out."""
    whole = experiment().cells
    part = experiment(f"sweep.only=['{whole[-1].id}']").cells
    for cells in (whole, part):
        assert [cell.method for cell in cells].count(None) == 1


# K. A distance to full precision's images under the name of one to real images.


def test_k_a_number_on_features_says_its_reference(tmp_path) -> None:
    ctx = made(tmp_path, 'evaluation.metrics=["fd", "kid", "precision-recall"]')
    names = [name for bound in ctx.experiment.evaluation.metrics for name in bound.create().names(feature_info(ctx))]
    assert {name.rpartition("@")[2] for name in names} == {"data", "fp"}


def test_k_a_published_name_without_its_reference_is_refused(tmp_path, monkeypatch) -> None:
    ctx = made(tmp_path, 'evaluation.metrics=["fd"]')
    metric = ctx.experiment.evaluation.metrics[0].component.load()
    monkeypatch.setattr(metric, "names", lambda self, extractor: ["FID"])
    monkeypatch.setattr(type(ctx.extractor), "inception", True)
    with pytest.raises(UserError, match="does not say what it is measured against") as caught:
        check_metrics(ctx)
    assert 'name it "FID@data" for real images, "FID@fp"' in caught.value.hint


# L. The best of several seeds.


def test_l_a_row_is_the_mean_over_seeds_never_the_best() -> None:
    def cell(seed: int, value: float) -> CellRecord:
        metrics = {"fd@data": Number(value, value - 0.1, value + 0.1, 64, protocol="p")}
        return CellRecord(f"m/W4A8/seed{seed}", "m", "W4A8", "", seed, "ok", metrics=metrics)

    record = run_of([cell(0, 3.0), cell(1, 5.0), cell(2, 10.0)])
    (row,) = rows_of(record)
    assert row.metrics["fd@data"].value == pytest.approx(6.0)
    assert row.metrics["fd@data"].spread == pytest.approx(np.std([3.0, 5.0, 10.0], ddof=1))
    fewer = copy.deepcopy(record)
    fewer.cells[2] = replace(fewer.cells[2], status="failed", reason="diverged", metrics={})
    (row,) = rows_of(fewer)
    assert [cell.reason for cell in row.failed] == ["diverged"]  # a seed that failed stays in sight


# M. Noise from the device's generator.


def test_m_images_do_not_depend_on_the_global_generator_or_on_the_batch(tmp_path) -> None:
    ctx = made(tmp_path, "sampling.eta=1.0")

    def images(ids: range) -> torch.Tensor:
        return sample(ctx.predictor(), ids, seed=3, block="images", device=ctx.device)

    torch.manual_seed(0)
    whole = images(range(6))
    torch.manual_seed(1)
    parts = torch.cat([images(range(4)), images(range(4, 6))])
    assert torch.allclose(whole, parts, atol=1e-5)


def test_m_no_sampling_code_draws_without_a_stream() -> None:
    """`torch.randn` and its kin get a generator by name everywhere, so none reads the global or a device's one."""
    drawing = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in drawing:
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "torch":
                assert "generator" in {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"


def sources() -> list[Path]:
    """Everything that computes: the core and the plugins of this repository."""
    found = [path for folder in ("ptqbench", "plugins") for path in (ROOT / folder).rglob("*.py")]
    assert len(found) > 100
    return found


def run_of(cells: list[CellRecord]) -> RunRecord:
    """A record of these cells."""
    return RunRecord("r", "", "", "m", "", "", {}, {}, cells)
