"""The real images of a comparison: those of `evaluation.reference`, or those that the model brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.evaluate.archive import has_images, read_statistics
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.moments import Gaussian
from ptqbench.evaluate.pictures import PART, open_pictures, readable
from ptqbench.sampling.images import full_precision_chunks
from ptqbench.stage.context import REFERENCE_SETTING, RunContext


@dataclass(frozen=True)
class RealImages:
    """Images (N, C, H, W) uint8 in parts, None where there are none; ready-made statistics by the extractor's output.

    `key` identifies both.
    """

    key: Any
    images: Chunks | None
    statistics: Mapping[str, Gaussian]

    @classmethod
    def of(cls, ctx: RunContext) -> RealImages:
        """The comparison's real images.

        Raises `UserError` if files are missing or damaged, if images have not the size of generated ones, or if statistics
        do not fit the extractor. A part's own error may come when it is read.
        """
        if ctx.experiment.evaluation.reference is not None:
            return _from_files(ctx)
        images = ctx.source.reference_images()
        parts = None if images is None else Chunks.of(_fitting(images, _shape(ctx)), PART)
        return cls(reference_key(ctx), parts, {})


def statistics_alone(ctx: RunContext) -> frozenset[str] | None:
    """Outputs whose statistics are all that the reference's file holds; None for a reference of images, or of the model.

    Raises `UserError` for a damaged file, or statistics that do not fit the extractor.
    """
    path = ctx.experiment.evaluation.reference
    if path is None or not path.is_file():
        return None
    statistics, images = _contents(ctx, path)
    return None if images else frozenset(statistics)


def reference_key(ctx: RunContext) -> Any:
    """What identifies the real images: the content of files, or the model source. Raises `UserError` if files are missing."""
    if ctx.reference_digest is None:
        return ["model", ctx.experiment.model.key, ctx.source_fingerprint]
    return ["files", ctx.reference_digest]


def _from_files(ctx: RunContext) -> RealImages:
    path = ctx.experiment.evaluation.reference
    if path is None:
        raise ValueError("the recipe names no reference")
    key, statistics, images = reference_key(ctx), dict[str, Gaussian](), True
    if path.is_file():
        statistics, images = _contents(ctx, path)
    return RealImages(key, open_pictures(path, _shape(ctx), REFERENCE_SETTING) if images else None, statistics)


def _contents(ctx: RunContext, path: Path) -> tuple[dict[str, Gaussian], bool]:
    """A file's ready-made statistics by output, and whether images are to be read from it."""
    with readable(path):
        statistics = read_statistics(path, ctx.extractor.outputs())
        return statistics, not statistics or has_images(path)


def _shape(ctx: RunContext) -> tuple[int, int, int]:
    channels, height, width = full_precision_chunks(ctx).part(0).shape[1:]
    return channels, height, width


def _fitting(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    if tuple(images.shape[1:]) != shape:
        raise UserError(
            f"the model's real images are {tuple(images.shape[1:])}, but it generates {shape} (channels, height, width)",
            f"name real images of that size with {REFERENCE_SETTING}",
        )
    return images
