"""A cell's images: generated in resumable parts, and read back part by part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.levels import require_decoded_range
from ptqbench.sampling.sample import sample, shards, to_bytes
from ptqbench.stage.cache import Costs, Entry, cached_tensors, content_key
from ptqbench.stage.context import RunContext
from ptqbench.stage.predictor import Predictor

FULL = "full precision"
"""What stands for the key of weights and grids where nothing is quantized."""


def image_shards(ctx: RunContext) -> list[range]:
    """How a cell's images are cut into resumable parts."""
    return shards(ctx.experiment.sampling.images, ctx.experiment.sampling.batch)


def image_key(ctx: RunContext, state: str, ids: range) -> str:
    """What names images `ids` of the predictor whose weights and grids have the key `state`."""
    return content_key(ctx.base_key, state, "images", ctx.experiment.sampling.seed, [ids.start, ids.stop])


def generate(ctx: RunContext, costs: Costs, state: str, predictor: Callable[[], Predictor], ids: range) -> Tensor:
    """Images `ids` as uint8 (len(ids), C, H, W); `state` is the key of the predictor's weights and grids."""

    def make(_: Entry) -> dict[str, Tensor]:
        seed = ctx.experiment.sampling.seed
        latents = sample(predictor(), ids, seed=seed, block="images", device=ctx.device)
        if not bool(torch.isfinite(latents).all()):
            raise CellFailedError("generated images are not finite", "look at the ranges of activations")
        decoded = ctx.model.decode(latents)
        if state == FULL:
            require_decoded_range(decoded)
        return {"images": to_bytes(decoded)}

    return cached_tensors(ctx.cache, costs, "images", image_key(ctx, state, ids), make)["images"]


def image_chunks(ctx: RunContext, state: str, predictor: Callable[[], Predictor]) -> Chunks:
    """All images of a predictor, (N, C, H, W) uint8, each part read when its turn comes."""
    pieces = image_shards(ctx)
    return Chunks([len(ids) for ids in pieces], lambda i: generate(ctx, Costs(), state, predictor, pieces[i]))


def full_precision_chunks(ctx: RunContext) -> Chunks:
    """All images of the full-precision model."""
    return image_chunks(ctx, FULL, ctx.predictor)
