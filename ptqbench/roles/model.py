"""Model sources: where a denoiser, its noise schedule and its decoder come from."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ptqbench.errors import UserError
from ptqbench.roles.base import WithOptions

Conditions = Mapping[str, Tensor]
"""Per-sample conditions, each (N, ...); empty for an unconditional model."""

COND, UNCOND = "cond", "uncond"
"""Names of branches: the evaluation under an image's own conditions, and the one under none."""

FROM_THE_END = {"calibration": 1, "probe": 2}
"""Of blocks of noise that take prompts from the last line backwards, every second one: where each begins."""

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]
"""What a denoiser was trained to predict, in diffusers' words: the noise, the velocity (arXiv:2202.00512), the clean sample; or
the velocity of a rectified flow (`ptqbench.roles.flow`)."""


def unconditional(ids: Sequence[int], branch: str) -> Conditions:
    """The conditions of a model that has none."""
    return {}


@dataclass
class DiffusionModel:
    """A full-precision diffusion model as the engine sees it.

    `call(denoiser, x, t, cond)` is one evaluation: the denoiser's output (B, C or more, H, W) for x (B, C, H, W) and t (B,)
    of the solver's timesteps, each row one sample; it gets the denoiser passed in, because the engine calls it with quantized
    copies as well. What the output is says `prediction`; channels beyond C (a learned variance) are not used. `alphas_cumprod`
    is the training noise schedule, (T,) float64, of a flow as `ptqbench.roles.flow` states it, shifted as the model is sampled.
    `decode(x0)` maps final latents to images (N, C', H', W') in [-1, 1].

    `branches` name the evaluations that make one prediction: `(COND,)`, or `(COND, UNCOND)` for a model that can be guided.
    `conditions(ids, branch)` gives the conditions of images by id, the same for every method, with equal keys and shapes in all
    branches. `guidance` is the scale that they are combined with. A model with `embedded_guidance` was trained to be told the
    scale instead: its one branch gets it as the condition "guidance" (N,).

    `prompts` are the texts that a text-conditioned model is told: id i stands for `prompts[i % len(prompts)]`, also below 0,
    where they are counted from the last. Calibration, held-out trajectories and images go through different ones
    (`condition_ids`).
    """

    denoiser: nn.Module
    call: Callable[[nn.Module, Tensor, Tensor, Conditions], Tensor]
    alphas_cumprod: Tensor
    shape: tuple[int, int, int]
    decode: Callable[[Tensor], Tensor]
    conditions: Callable[[Sequence[int], str], Conditions] = unconditional
    prediction: PredictionType = "epsilon"
    branches: tuple[str, ...] = (COND,)
    guidance: float = 1.0
    embedded_guidance: bool = False
    prompts: Sequence[str] = ()

    def guided(self, scale: float | None) -> DiffusionModel:
        """The model under guidance of this scale. 1, and None, need no second evaluation: that is the model unguided.

        A model that is told the scale needs one, 1 too. Raises `UserError` if that is missing, or for a scale that a model
        without an unconditional branch cannot follow.
        """
        if self.embedded_guidance:
            if scale is None:
                raise UserError(
                    "the model is told the scale of its guidance, and sampling.guidance does not say it",
                    "set sampling.guidance to the scale that the model is sampled with, for example 3.5",
                )
            told = partial(_with_guidance, self.conditions, scale)
            return dataclasses.replace(self, branches=self.branches[:1], guidance=scale, conditions=told)
        if scale is None or scale == 1:
            return dataclasses.replace(self, branches=self.branches[:1], guidance=1.0)
        if UNCOND not in self.branches:
            raise UserError(
                f"sampling.guidance is {scale:g}, but this model has no unconditional branch to be guided away from",
                "leave guidance out, or choose a model that was trained with a null condition",
            )
        return dataclasses.replace(self, guidance=scale)

    def combine(self, predictions: Mapping[str, Tensor]) -> Tensor:
        """One prediction of those of all branches: uncond + scale (cond - uncond) (arXiv:2207.12598, whose w is scale - 1)."""
        if UNCOND not in predictions:
            return predictions[COND]
        without = predictions[UNCOND]
        return without + self.guidance * (predictions[COND] - without)

    def condition_ids(self, ids: Sequence[int], block: str) -> Sequence[int]:
        """The ids that conditions of a block of noise go by: its own, if there are no prompts.

        Images take prompts from the first line on; calibration and held-out trajectories by turns from the last one backwards.
        So none of them moves when there are more of another, and all are different while there are enough lines
        (`prompts_needed`).
        """
        start = FROM_THE_END.get(block)
        return ids if start is None or not self.prompts else [-start - 2 * i for i in ids]

    def conditions_in(self, block: str, ids: Sequence[int], branch: str) -> Conditions:
        """The conditions of a block's ids in one branch."""
        return self.conditions(self.condition_ids(ids, block), branch)

    def conditions_of(self, ids: Sequence[int], device: torch.device, block: str) -> dict[str, Conditions]:
        """The conditions of a block's ids by branch, on `device`."""
        return {b: {name: value.to(device) for name, value in self.conditions_in(block, ids, b).items()} for b in self.branches}


def prompts_needed(images: int, trajectories: int, probes: int) -> int:
    """How many prompts keep those of images, calibration trajectories and held-out ones apart."""
    return images + max(2 * trajectories - 1, 2 * probes)


def _with_guidance(
    conditions: Callable[[Sequence[int], str], Conditions], scale: float, ids: Sequence[int], branch: str
) -> Conditions:
    told = torch.full((len(ids),), scale, dtype=torch.float32, device="cpu")
    return {**conditions(ids, branch), "guidance": told}


class ModelSource(WithOptions, ABC):
    """Finds and loads a model. Built as `Class(options)`; construction is cheap, `load` does the work."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights and configuration: part of every cache key."""

    @abstractmethod
    def load(self, device: torch.device) -> DiffusionModel:
        """Load in eval mode, float32, gradients off. Raises `ptqbench.errors.UserError` if files are missing or wrong."""

    def reference_images(self) -> Tensor | None:
        """Real images of the model's domain, uint8 (N, C, H, W), or None where the source has none."""
        return None
