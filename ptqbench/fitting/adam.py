"""Adam on the trainables of a unit, at learning rates that the caller gives anew in each iteration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """`torch.optim.Adam(fused=True)` with its default constants, the same bits, by torch's function underneath: what the class
    adds for hooks, profilers and compilers takes a tenth of a millisecond, in small units a twentieth of an iteration."""

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.params = list(params)
        self.first, self.second = ([torch.zeros_like(p) for p in self.params] for _ in range(2))
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self.params]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], rate: float) -> None:
        """Move the variables down these gradients; those without one stay."""
        state = zip(self.params, gradients, self.first, self.second, self.steps, strict=True)
        moving = [entry for entry in state if entry[1] is not None]
        if not moving:
            return
        params, found, first, second, steps = map(list, zip(*moving, strict=True))
        adam(
            params,
            found,
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
