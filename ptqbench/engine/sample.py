"""Running the sampler: full precision or quantized, always on the noise of given image ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptqbench.engine.counting import count_denoiser
from ptqbench.engine.rng import NoiseSource
from ptqbench.engine.schedule import Schedule
from ptqbench.errors import CellFailedError
from ptqbench.quant.layer import StepContext
from ptqbench.roles.hook import SamplerHook, StepNoise
from ptqbench.roles.model import DiffusionModel


@dataclass(frozen=True)
class Predictor:
    """A denoiser that tells its quantizers which sampling step each row is at before it predicts.

    `hooks` correct its predictions, and the noise of a sampler that uses it, in their order.
    """

    model: DiffusionModel
    denoiser: nn.Module
    schedule: Schedule
    context: StepContext | None = None
    hooks: Sequence[SamplerHook] = ()

    def __call__(self, x: Tensor, step: Tensor, cond: Mapping[str, Tensor], t: Tensor | None = None) -> Tensor:
        """Noise prediction (B, C, H, W) for x (B, C, H, W) at sampling steps `step` (B,); `t` overrides the timesteps.

        Raises `CellFailedError` if a hook changes the shape.
        """
        # Counted first, because a recording may end the pass early.
        count_denoiser(len(x))
        if self.context is not None:
            self.context.step = step.to(x.device)
        label = self.schedule.timesteps[step] if t is None else t
        eps = self.model.predict(self.denoiser, x, label.to(x.device), cond)
        for hook in self.hooks:
            found = hook.prediction(step.to(x.device), eps)
            if found.shape != eps.shape:
                message = f"the sampler hook {type(hook).__name__} made {tuple(found.shape)} of {tuple(eps.shape)}"
                raise CellFailedError(message, "mend its prediction()")
            eps = found
        return eps

    def noise(self, s: int) -> StepNoise:
        """The sampler's noise at step s: the schedule's, as the hooks change it.

        Raises `CellFailedError` if a hook plans noise that no sampler can add.
        """
        planned = self.schedule.noise(s)
        for hook in self.hooks:
            planned = hook.noise(s, planned)
            if not all(math.isfinite(value) and value >= 0 for value in (planned.sigma, planned.direction)):
                message = f"the sampler hook {type(hook).__name__} plans {planned} at step {s}"
                raise CellFailedError(message, "mend its noise(): deviations are finite and not negative")
        return planned


@torch.inference_mode()
def sample(
    predictor: Predictor,
    ids: Sequence[int],
    *,
    seed: int,
    block: str,
    device: torch.device,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Generate latents x_0 (len(ids), C, H, W) from the noise of `ids` in a named block.

    `on_step(s, x, eps)` sees each step's input and prediction. Fresh noise (eta > 0) is drawn per id as well, so an image
    is a function of its id, the seed and the predictor alone. It is drawn wherever the schedule adds noise, also where a
    hook takes that away, so that a step's noise is the same for every method.
    """
    model, schedule = predictor.model, predictor.schedule
    noise = NoiseSource(seed, block, ids, model.shape)
    cond = {name: value.to(device) for name, value in model.conditions(ids).items()}
    x = noise.draw().to(device)
    for s in range(schedule.steps):
        eps = predictor(x, torch.full((len(ids),), s), cond)
        if on_step is not None:
            on_step(s, x, eps)
        planned = predictor.noise(s)
        drawn = noise.draw().to(device) if max(planned.sigma, schedule.sigma(s)) > 0 else None
        x = schedule.update(s, x, eps, drawn, planned)
    return x


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, rounded to nearest: the only place where images become 8 bit."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def shards(count: int, size: int) -> list[range]:
    """Ids 0..count-1 in consecutive ranges of at most `size`."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
