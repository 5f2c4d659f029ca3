"""`ptqbench bench features` and `fit`: what they print, and that streaming finds what one computation finds."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from ptqbench.benchmarks.features import ALL_PAIRS, RandomProjection, moments, pairwise, progress, random_images
from ptqbench.commands.bench import KINDS, MOMENTS, command


@pytest.mark.parametrize("width", [16, 64])
def test_streamed_statistics_equal_the_one_shot_computation(width: int) -> None:
    extractor = RandomProjection(width)
    extractor.prepare(torch.device("cpu"))
    images = random_images(1100)
    found = moments(extractor, images)
    rows = extractor.extract(torch.cat(list(images)))["pool"].double()
    assert found.count == 1100
    assert torch.allclose(found.mean, rows.mean(dim=0), rtol=1e-6, atol=1e-7)
    assert torch.allclose(found.covariance(), rows.T.cov(), rtol=1e-5, atol=1e-7)


def test_progress_reaches_all_images() -> None:
    rows = list(progress(1100, 8))
    assert [row.images for row in rows] == [256, 512, 768, 1100]
    assert [row.seconds for row in rows] == sorted(row.seconds for row in rows)
    assert all(row.peak_mib > 10 for row in rows)
    assert [row.images for row in progress(100, 8)] == [100]


def test_the_command_prints_a_table() -> None:
    result = CliRunner().invoke(command, ["features", "--images", "600", "--dims", "4,8"], catch_exceptions=False)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:3] == ["what", "width", "images"]
    assert [line[:3] for line in lines if line[2] == "600"] == [["moments", "4", "600"], ["moments", "8", "600"]]


def test_the_command_measures_all_pairs() -> None:
    arguments = ["features", "--images", "400", "--dims", "4", "--what", "kid,precision-recall"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    found = [line.split()[:3] for line in result.stdout.splitlines()[1:]]
    assert found == [[kind, "4", str(n)] for kind in ("kid", "precision-recall") for n in (100, 200, 300, 400)]


def test_memory_of_all_pairs_does_not_grow_with_the_square() -> None:
    """All distances of 6000 images would be 288 MB each; tiles and two blocks of features are a few MB."""
    for what in ALL_PAIRS:
        rows = list(pairwise(what, 6000, 16))
        assert rows[-1].peak_mib - rows[0].peak_mib < 100, what


def test_the_names_are_those_of_the_command() -> None:
    assert (MOMENTS, *ALL_PAIRS) == KINDS


def test_unknown_kinds_are_a_usage_error() -> None:
    result = CliRunner().invoke(command, ["features", "--what", "fid"])
    assert result.exit_code == 2
    assert "moments, kid, precision-recall" in result.output


def test_widths_must_be_numbers() -> None:
    result = CliRunner().invoke(command, ["features", "--dims", "64,many"])
    assert result.exit_code == 2
    assert "64,2048" in result.output
