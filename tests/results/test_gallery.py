"""Where pixels land on the picture of samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptqbench.results.gallery import AMPLIFIED, BETWEEN, GAP, HEADING, MARGIN, TILE, gallery, label_width


def numbered(rows: int, count: int, channels: int, size: int) -> list[tuple[str, torch.Tensor]]:
    """Images whose pixels all differ: 10 for each row, 1 for each image, and a gradient along the width."""
    ramp = torch.arange(size).view(1, 1, 1, size).expand(count, channels, size, size)
    base = torch.arange(count).view(-1, 1, 1, 1)
    return [(f"row {r}", (ramp + base + 10 * r).to(torch.uint8)) for r in range(rows)]


def test_grey_images_are_enlarged_by_a_whole_factor_beside_their_differences() -> None:
    rows = numbered(2, 3, 1, 16)
    picture = np.asarray(gallery(rows, columns=2))
    left = label_width([label for label, _ in rows])
    across = 2 * TILE + GAP
    second = left + across + BETWEEN
    assert picture.shape[0] == HEADING + 2 * TILE + GAP + MARGIN
    assert picture.shape[1] >= second + across + MARGIN
    factor = TILE // 16
    for row in range(2):
        for column in range(2):
            top, start = HEADING + row * (TILE + GAP), left + column * (TILE + GAP)
            tile = picture[top : top + TILE, start : start + TILE]
            expected = np.asarray(rows[row][1][column, 0]).repeat(factor, 0).repeat(factor, 1)
            assert np.array_equal(tile, np.repeat(expected[..., None], 3, axis=2))
    assert (picture[:, -MARGIN:] == 255).all()
    assert (picture[HEADING : HEADING + TILE, MARGIN:left] < 128).any(), "the label is drawn"
    assert (picture[HEADING : HEADING + TILE, second:] == 255).all(), "the first row has no difference to itself"
    # Every image of the second row is brighter by 10.
    assert (picture[HEADING + TILE + GAP :, second : second + TILE][:TILE] == 10 * AMPLIFIED).all()


def test_differences_are_absolute_and_end_at_white() -> None:
    first, other = np.full((1, 1, 8, 8), 100, dtype=np.uint8), np.full((1, 1, 8, 8), 97, dtype=np.uint8)
    other[0, 0, 0, 0] = 255
    picture = np.asarray(gallery([("a", first), ("b", other)]))
    start = label_width(["a", "b"]) + TILE + BETWEEN
    tile = picture[HEADING + TILE + GAP :, start : start + TILE]
    assert tile[0, 0].tolist() == [255] * 3
    assert tile[-MARGIN - 1, -1].tolist() == [3 * AMPLIFIED] * 3


def test_colour_keeps_its_channels_and_large_images_their_size() -> None:
    image = np.zeros((1, 3, 80, 100), dtype=np.uint8)
    image[0, 0], image[0, 2, 5, 7] = 200, 50
    picture = np.asarray(gallery([("a", image)]))
    left = label_width(["a"])
    assert picture.shape[0] == HEADING + 80 + MARGIN
    assert picture[HEADING + 5, left + 7].tolist() == [200, 0, 50]
    assert picture[HEADING, left].tolist() == [200, 0, 0]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("a", np.zeros((2, 4, 8, 8), dtype=np.uint8))],
        [("a", np.zeros((2, 1, 8, 8), dtype=np.float32))],
        [("a", np.zeros((0, 1, 8, 8), dtype=np.uint8))],
        [("a", np.zeros((2, 1, 8, 8), dtype=np.uint8)), ("b", np.zeros((2, 1, 9, 9), dtype=np.uint8))],
    ],
)
def test_other_shapes_are_refused(rows: list[tuple[str, np.ndarray]]) -> None:
    with pytest.raises(ValueError, match="gallery"):
        gallery(rows)
