"""Reconstruction in two phases: rounding variables of all units, then activation step sizes of all units."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ptqbench.engine.fit import FitContext
from ptqbench.roles.reconstruction import Phase, Reconstruction
from ptqbench_brecq import BrecqOptions

ROUNDING = Phase("rounding", learns=frozenset({"rounding"}), activations=False, inputs="quantized")
STEPS = Phase("steps", learns=frozenset({"step"}), activations=True, inputs="full-precision")


class TwoPhase(Reconstruction):
    """BRECQ as Q-Diffusion uses it (arXiv:2302.04304, section 4): weights first with activations in full precision, then
    the step sizes of the activations with the weights fixed."""

    options: BrecqOptions
    phases = (ROUNDING, STEPS)

    def work(self, phase: Phase) -> tuple[int, int]:
        """Iterations of the phase, and the mini-batch size."""
        return (self.options.iterations if phase is ROUNDING else self.options.step_iterations), self.options.batch

    def fit(self, context: FitContext) -> Iterator[float]:
        """Adam on the unit's trainables; the loss is the weighted reconstruction error plus the quantizers' penalties."""
        o = self.options
        rounding = context.phase is ROUNDING
        iterations, size = self.work(context.phase)
        rates = {"rounding": o.rounding_rate} if rounding else {"step": o.step_rate}
        trainables = context.start(rates, o.power if rounding else o.step_power)
        optimiser = torch.optim.Adam([{"params": trainables[kind], "lr": rate} for kind, rate in rates.items()])
        decay = None if rounding else torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
        for i in range(iterations):
            context.at_rates({kind: group["lr"] for kind, group in zip(rates, optimiser.param_groups, strict=True)})
            batch = context.problem.draw(size, rng=context.rng)
            loss = context.weighted_loss(batch)
            penalty = context.penalty(i / iterations)
            optimiser.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            optimiser.step()
            if decay is not None:
                decay.step()
            yield (i + 1) / iterations


class Nothing(Reconstruction):
    """Rounding to nearest: no phases."""

    def work(self, phase: Phase) -> tuple[int, int]:
        """Never asked, since there are no phases."""
        return 0, 0

    def fit(self, context: FitContext) -> Iterator[float]:
        """Never called, since there are no phases."""
        return iter(())
