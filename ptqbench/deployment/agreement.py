"""How well what runs elsewhere agrees with the simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """What a program computes beside the simulation, on `rows` held-out states: largest and mean absolute difference, and the
    simulation's power over the difference's in dB: minus infinity where the simulation is zero or anything is no number. Of
    several `graphs` the worst one's."""

    rows: int
    largest: float
    mean: float
    snr: float
    graphs: int = 1

    @classmethod
    def of(cls, found: Tensor, wanted: Tensor) -> Agreement:
        difference = (found.double() - wanted.double()).abs()
        noise, power = float(difference.square().sum()), float(wanted.double().square().sum())
        if power == 0 or not math.isfinite(noise):
            snr = -math.inf
        elif noise == 0:
            snr = math.inf
        else:
            snr = 10 * math.log10(power / noise)
        return cls(len(wanted), float(difference.max()), float(difference.mean()), snr)

    @classmethod
    def of_graphs(cls, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Agreement:
        """Of several graphs with their own states each: together as good as the worst."""
        parts = [cls.of(one, other) for one, other in zip(found, wanted, strict=True)]
        whole = cls.of(torch.cat(list(found)), torch.cat(list(wanted)))
        return replace(whole, snr=min(part.snr for part in parts), graphs=len(parts))

    def __str__(self) -> str:
        worst = f" in the worst of {self.graphs} graphs" if self.graphs > 1 else ""
        told = f"largest difference {self.largest:.2g}, mean {self.mean:.2g}, on {self.rows} held-out states"
        return f"{self.snr:.1f} dB{worst}, {told}"
