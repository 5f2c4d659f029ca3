"""QDrop's reconstruction: one phase in which a unit's rounding variables and activation step sizes learn together."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ptqbench.engine.fit import FitContext
from ptqbench.roles.reconstruction import Phase, Reconstruction
from ptqbench_qdrop import QDropOptions

JOINT = Phase("joint", learns=frozenset({"rounding", "step"}), activations=True, inputs="mixed")


class QDrop(Reconstruction):
    """Joint reconstruction with randomly dropped quantization (arXiv:2203.05740).

    Elements of the unit's input are the quantized network's with probability `input_keep` and full precision's otherwise;
    activations inside the unit stay quantized with probability `activation_keep`. The target is the unit's full-precision
    output. At inference nothing is dropped. Where weights or activations have 32 bits, the other kind learns alone.
    """

    options: QDropOptions
    phases = (JOINT,)

    def work(self, phase: Phase) -> tuple[int, int]:
        """Iterations, and the mini-batch size."""
        return self.options.iterations, self.options.batch

    def fit(self, context: FitContext) -> Iterator[float]:
        """Adam on both kinds of trainables; the loss is the weighted reconstruction error plus the quantizers' penalties."""
        o = self.options
        rates = {"rounding": o.rounding_rate, "step": o.step_rate}
        decays = {"rounding": o.rounding_decay == "cosine", "step": True}
        trainables = context.start(rates, o.power, input_keep=o.input_keep, activation_keep=o.activation_keep)
        kinds = [kind for kind in rates if trainables[kind]]
        optimiser = torch.optim.Adam([{"params": trainables[kind], "lr": rates[kind]} for kind in kinds])
        for i in range(o.iterations):
            now = {kind: rate * (cosine(i / o.iterations) if decays[kind] else 1.0) for kind, rate in rates.items()}
            for kind, group in zip(kinds, optimiser.param_groups, strict=True):
                group["lr"] = now[kind]
            context.at_rates(now)
            loss = context.weighted_loss(context.problem.draw(o.batch, rng=context.rng))
            penalty = context.penalty(i / o.iterations)
            optimiser.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            optimiser.step()
            yield (i + 1) / o.iterations


def cosine(progress: float) -> float:
    """Share of the learning rate at `progress` in [0, 1]: 1 at the start, 0 at the end, half a cosine between them."""
    return (1 + math.cos(math.pi * progress)) / 2
