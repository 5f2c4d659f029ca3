"""The metrics of ptqbench_metrics on hand-made evidence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ptqbench import Options
from ptqbench.errors import CellFailedError
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.distances import frechet_distance
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.kernels import kernel_distance
from ptqbench.plugin.component import Component
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics import ptqbench_components

DIGITS = FeatureInfo("digits", {"pool": 6, "spatial": 6, "probabilities": 6})
INCEPTION = FeatureInfo("inception", {"pool": 2048, "spatial": 2023, "probabilities": 1008}, inception=True)

COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in ptqbench_components()
    # Metrics of networks have no weights of their own; their tests are in test_metrics_perceptual.py.
    if not any(option.is_required() for option in component.options.model_fields.values())
}
HIGHER = ("psnr", "psnr-median", "ssim", "precision-recall", "inception-score")
PAIRED = ("image-error", "psnr", "psnr-median", "ssim", "eps-error", "latent-error")


def images(n: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (n, 1, 12, 12), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def features_of(x: Tensor) -> Tensor:
    return x.double().flatten(1)[:, :6] / 255


def evidence(n: int = 60, *, real: bool = True, is_fp: bool = False, **changes: Any) -> Evidence:
    fp = images(n, 0)
    ours = fp if is_fp else images(n, 1)
    sets = {"cell": features_of(ours), "fp": features_of(fp), "data": features_of(images(80, 2)) if real else None}

    def feature_sets(which: str, output: str) -> FeatureSet | None:
        rows = sets[which]
        if rows is None:
            return None
        return FeatureSet(Chunks.of(rows.softmax(dim=1) if output == "probabilities" else rows, 7), rows.shape[1])

    error = torch.rand(8, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    facts: dict[str, Any] = {
        "images": Chunks.of(ours, 9),
        "full_precision": Chunks.of(fp, 9),
        "feature_sets": feature_sets,
        "extractor": DIGITS,
        "noise_error": torch.zeros_like(error) if is_fp else error,
        "timesteps": torch.tensor([950, 500, 0]),
        "gains": torch.tensor([-0.5, 0.25, -0.01], dtype=torch.float64),
        "is_full_precision": is_fp,
    }
    return Evidence(**(facts | changes))


def build(name: str, **options: Any) -> Metric:
    component = COMPONENTS[name]
    metric: Metric = component.create(component.options(**options))
    return metric


def compute(name: str, given: Evidence, **options: Any) -> dict[str, MetricValue]:
    """The numbers, after the checks that hold for every metric."""
    metric = build(name, **options)
    found = dict(metric.compute(given))
    assert set(found) <= set(metric.names(given.extractor))
    assert all(x.low <= x.value <= x.high and x.n > 1 for x in found.values())
    # Leaving out a block of twenty moves no number far.
    assert all(min(x.replicates) <= x.value <= max(x.replicates) for x in found.values() if name in PAIRED)
    return found


def test_every_component_can_be_built_and_says_what_it_is() -> None:
    for component in COMPONENTS.values():
        assert issubclass(component.options, Options)
        metric = component.create()
        assert isinstance(metric, Metric)
        assert metric.names(DIGITS)
        assert metric.better == ("higher" if component.name in HIGHER else "lower")
        assert all(len(set(metric.names(info))) == len(metric.names(info)) for info in (DIGITS, INCEPTION))


def test_noise_error_averages_trajectories_and_keeps_timesteps() -> None:
    error = torch.tensor([[1.0, 3.0], [2.0, 4.0], [3.0, 8.0]]).double()
    given = evidence(noise_error=error, timesteps=torch.tensor([900, 100]))
    (number,) = compute("eps-error", given).values()
    assert number.value == pytest.approx(3.5)
    assert (number.n, number.unit) == (3, "trajectories")
    assert number.detail == {"t": [900.0, 100.0], "error": [2.0, 5.0]}
    # Trajectory means 2, 3, 5.5; their standard error is 1.0408, Student's t with two degrees of freedom is 4.3027.
    assert number.high - number.value == pytest.approx(4.302653 * 1.040833, rel=1e-5)


def test_latent_error_weighs_each_step_by_the_samplers_own_factor() -> None:
    error = torch.tensor([[1.0, 3.0], [2.0, 4.0], [3.0, 8.0]]).double()
    gains = torch.tensor([-0.5, 0.1]).double()
    (number,) = compute("latent-error", evidence(noise_error=error, timesteps=torch.tensor([900, 100]), gains=gains)).values()
    assert number.value == pytest.approx((0.25 * 2 + 0.01 * 5) / 2)
    assert number.detail == {"t": [900.0, 100.0], "error": [0.5, pytest.approx(0.05)]}


@pytest.mark.parametrize("name", ["eps-error", "latent-error"])
def test_noise_error_that_is_not_finite_names_the_timestep(name: str) -> None:
    error = torch.zeros(3, 2).double()
    error[1, 1] = math.nan
    with pytest.raises(CellFailedError, match="1 of 2 timesteps, first at t = 100"):
        compute(name, evidence(noise_error=error, timesteps=torch.tensor([900, 100]), gains=torch.ones(2)))


def pair(*differences: int) -> Evidence:
    """Black full-precision images, and images that are this much brighter in every pixel."""
    ours = torch.stack([torch.full((3, 2, 2), d, dtype=torch.uint8) for d in differences])
    return evidence(images=Chunks.of(ours), full_precision=Chunks.of(torch.zeros_like(ours)))


def test_image_error_by_hand() -> None:
    (number,) = compute("image-error", pair(51, 102)).values()  # 0.2 and 0.4 on the 0..1 scale
    assert number.value == pytest.approx((0.04 + 0.16) / 2)
    assert number.n == 2


def test_psnr_by_hand() -> None:
    (number,) = compute("psnr", pair(51, 255)).values()
    assert number.value == pytest.approx((-20 * math.log10(0.2) + 0.0) / 2)
    (equal,) = compute("psnr", pair(0, 0)).values()
    assert equal.value == equal.low == equal.high == pytest.approx(20 * math.log10(510))
    (step,) = compute("psnr", pair(1, 1)).values()
    assert step.value == pytest.approx(20 * math.log10(255))


def test_images_that_do_not_pair_are_refused() -> None:
    with pytest.raises(CellFailedError, match="do not pair"):
        compute("psnr", evidence(full_precision=Chunks.of(images(59, 0), 9)))
    with pytest.raises(CellFailedError, match="do not pair"):
        compute("psnr", evidence(full_precision=Chunks.of(images(60, 0)[:, :, :2], 9)))


@pytest.mark.parametrize(("name", "value"), [("fd", frechet_distance), ("kid", kernel_distance)])
def test_set_distances_name_features_and_reference(name: str, value: Any) -> None:
    given = evidence()
    found = compute(name, given, reference="both")
    assert list(found) == [f"{name}-digits@data", f"{name}-digits@fp"]
    ours, data, fp = (given.features(which).rows() for which in ("cell", "data", "fp"))
    assert found[f"{name}-digits@data"].value == pytest.approx(value(ours, data))
    expected = value(ours, fp, paired=True) if name == "kid" else value(ours, fp)
    assert found[f"{name}-digits@fp"].value == pytest.approx(expected)
    assert {x.n for x in found.values()} == {60}
    assert not any("fid" in key.lower() for key in found)


NAMES = {
    "fd": (["fd-digits@data", "fd-digits@fp"], ["fd-inception@data", "fd-inception@fp"]),
    "fid": (["fd-digits@data", "fd-digits@fp"], ["fid@data", "fid@fp"]),
    "sfid": (["sfd-digits@data", "sfd-digits@fp"], ["sfid@data", "sfid@fp"]),
    "kid": (["kid-digits@data"], ["kid@data"]),
    "precision-recall": (["precision-digits@data", "recall-digits@data"], ["precision@data", "recall@data"]),
    "inception-score": (["is-digits"], ["is"]),
    "class-changed": (["class-changed-digits@fp"], ["class-changed-inception@fp"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_only_the_published_inception_features_give_the_published_names(name: str) -> None:
    assert (build(name).names(DIGITS), build(name).names(INCEPTION)) == NAMES[name]
    other = replace(INCEPTION, inception=False)
    assert all("-inception" in column for column in build(name).names(other))
    assert set(compute(name, evidence(300, extractor=other))) <= set(build(name).names(other))


def test_fid_is_the_frechet_distance_and_sfid_that_of_spatial_features() -> None:
    given = evidence(extractor=INCEPTION)
    assert compute("fid", given)["fid@data"] == compute("fd", given)["fd-inception@data"]
    asked = []
    watched = evidence(feature_sets=lambda which, output: asked.append(output) or given.feature_sets(which, output))
    compute("sfid", watched)
    assert set(asked) == {"spatial"}


def test_the_full_precision_row_is_measured_against_data_only() -> None:
    given = evidence(is_fp=True)
    found = {key for name in COMPONENTS for key in compute(name, given)}
    against_data = {f"{name}-digits@data" for name in ("fd", "sfd", "kid", "precision", "recall")}
    assert found == {*against_data, "is-digits"}


@pytest.mark.parametrize("name", ["fd", "kid"])
def test_missing_real_images(name: str) -> None:
    given = evidence(real=False)
    assert list(compute(name, given, reference="both")) == [f"{name}-digits@fp"]
    with pytest.raises(CellFailedError, match=f"{name}-digits@data needs real images") as caught:
        compute(name, given, reference="data")
    assert 'reference = "fp"' in caught.value.hint
    assert "evaluation.reference" in caught.value.hint


def test_equal_images_are_at_no_distance_from_full_precision() -> None:
    fp = images(60, 0)
    given = evidence(images=Chunks.of(fp), feature_sets=lambda which, output: FeatureSet.of(features_of(fp)))
    for name in ("fd", "kid", "sfid"):
        (number,) = compute(name, given, reference="fp").values()
        assert number.value == pytest.approx(0.0, abs=1e-9)
        assert number.high == pytest.approx(0.0, abs=1e-8)


def test_kernel_distance_over_disjoint_subsets() -> None:
    (whole,) = compute("kid", evidence(400)).values()
    (parts,) = compute("kid", evidence(400), subset=50).values()
    # The same expectation: both intervals hold the other's value.
    assert parts.low <= whole.value <= parts.high
    assert parts.value != whole.value
    with pytest.raises(CellFailedError, match="two subsets of 40"):
        compute("kid", evidence(60), subset=40)


@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("fid", {}, 2049),
        ("sfid", {}, 2024),
        ("kid", {}, 3),
        ("kid", {"subset": 50}, 100),
        ("precision-recall", {"neighbours": 4}, 5),
        ("inception-score", {"splits": 10}, 10_080),
        ("psnr", {}, 2),
        ("psnr-median", {}, 6),
    ],
)
def test_too_few_images_are_known_before_anything_is_computed(name: str, options: dict[str, int], least: int) -> None:
    assert build(name, **options).least_images(INCEPTION) == least


def test_a_subset_of_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        build("kid", subset=1)
