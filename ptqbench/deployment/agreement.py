"""How well what runs elsewhere agrees with the simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """What a program computes beside the simulation, on `rows` held-out states: largest and mean absolute difference, and the
    simulation's power over the difference's in dB: minus infinity where the simulation is zero or anything is no number."""

    rows: int
    largest: float
    mean: float
    snr: float

    @classmethod
    def of(cls, found: Tensor, wanted: Tensor) -> Agreement:
        difference = (found.double() - wanted.double()).abs()
        noise, power = float(difference.square().sum()), float(wanted.double().square().sum())
        if noise == 0:
            snr = math.inf
        elif power == 0 or not math.isfinite(noise):
            snr = -math.inf
        else:
            snr = 10 * math.log10(power / noise)
        return cls(len(wanted), float(difference.max()), float(difference.mean()), snr)

    def __str__(self) -> str:
        return f"{self.snr:.1f} dB, largest difference {self.largest:.2g}, mean {self.mean:.2g}, on {self.rows} held-out states"
