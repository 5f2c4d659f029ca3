"""Running the sampler: full precision or quantized, always on the noise of given image ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ptqbench.sampling.rng import NoiseSource
from ptqbench.stage.predictor import Prediction, Predictor


@torch.inference_mode()
def sample(
    predictor: Predictor,
    ids: Sequence[int],
    *,
    seed: int,
    block: str,
    device: torch.device,
    on_step: Callable[[int, Tensor, Prediction], None] | None = None,
) -> Tensor:
    """Generate latents x_0 (len(ids), C, H, W) from the noise of `ids` in a named block.

    `on_step(s, x, prediction)` sees each step's input and prediction. Fresh noise (eta > 0) is drawn per id as well, so an
    image is a function of its id, the seed and the predictor alone. It is drawn wherever the schedule adds noise, also where
    a hook takes that away, so that a step's noise is the same for every method.
    """
    model, schedule = predictor.model, predictor.schedule
    noise = NoiseSource(seed, block, ids, model.shape)
    conditions = model.conditions_of(ids, device, block)
    x, update = noise.draw().to(device), schedule.start()
    for s in range(schedule.steps):
        found = predictor(x, torch.full((len(ids),), s, dtype=torch.int64, device="cpu"), conditions)
        if on_step is not None:
            on_step(s, x, found)
        planned = predictor.noise(s)
        drawn = noise.draw().to(device) if max(planned.sigma, schedule.noise(s).sigma) > 0 else None
        x = update(s, x, found.eps, drawn, planned)
    return x


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, rounded to nearest: the only place where images become 8 bit."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def shards(count: int, size: int) -> list[range]:
    """Ids 0..count-1 in consecutive ranges of at most `size`."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
