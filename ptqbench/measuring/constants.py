"""Sites that round all they get to one value: a grid that is far too coarse, through which nothing passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.sampling.reference import predict_states, probe_states
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext
from ptqbench.stage.predictor import Predictor

TRAJECTORIES = 2
"""Held-out trajectories that are looked at: a site that gives one value does so for any."""


@torch.inference_mode()
def constant_sites(ctx: RunContext, q: QuantizedDenoiser, predictor: Predictor) -> dict[str, int]:
    """At how many sampling steps a site gives a single value although what it gets is not one, for each site that does so.

    Sites are "LAYER weight", which is the same at every step, "LAYER input", and an attention's "NAME q" and the like.
    """
    found = Counter(
        {f"{name} weight": ctx.schedule.steps for name, layer in q.layers.items() if _gone(layer.weight, layer.baked)}
    )
    x = probe_states(ctx, Costs())["x"][:TRAJECTORIES]
    watches = {name: Watch(quantizer) for name, quantizer in _rounding(q)}
    try:
        for s in range(ctx.schedule.steps):
            predict_states(ctx, predictor, x[:, s], s, "probe")
            found.update({name for name, watch in watches.items() if watch.constant()})
    finally:
        for watch in watches.values():
            watch.handle.remove()
    return dict(found)


class Watch:
    """Looks at what goes into a quantizer and what comes out, over all calls since it was last asked."""

    def __init__(self, quantizer: nn.Module) -> None:
        self._seen: list[bool] = []
        self.handle = quantizer.register_forward_hook(self._look)

    def constant(self) -> bool:
        """Whether it was called, and every call lost all that was in its input."""
        seen, self._seen = self._seen, []
        return bool(seen) and all(seen)

    def _look(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._seen.append(_gone(args[0], output))


def _rounding(q: QuantizedDenoiser) -> Iterator[tuple[str, nn.Module]]:
    """Every activation quantizer; a layer's are told apart by the channels that they are for, where it has several."""
    for name, layer in q.layers.items():
        for part in layer.partitions():
            if part.activation is not None:
                where = f" {part.start} to {part.stop - 1}" if len(layer.parts) > 1 else ""
                yield f"{name} input{where}", part.activation
    for name, attention in q.attentions.items():
        yield from ((f"{name} {site}", quantizer) for site, quantizer in attention.quantizers.items())


def _gone(before: Tensor, after: Tensor) -> bool:
    """Whether values that differ became one value."""
    return after.numel() > 1 and bool(after.amin() == after.amax()) and bool(before.amin() != before.amax())
