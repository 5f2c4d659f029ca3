"""`ptqbench bench features`: what it prints, and that streaming finds what one computation finds."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from ptqbench_metrics.bench import RandomProjection, moments, progress, random_images
from ptqbench_metrics.commands import bench


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
    result = CliRunner().invoke(bench, ["features", "--images", "600", "--dims", "4,8"], catch_exceptions=False)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:2] == ["width", "images"]
    assert [line[:2] for line in lines if line[1] == "600"] == [["4", "600"], ["8", "600"]]


def test_widths_must_be_numbers() -> None:
    result = CliRunner().invoke(bench, ["features", "--dims", "64,many"])
    assert result.exit_code == 2
    assert "64,2048" in result.output
