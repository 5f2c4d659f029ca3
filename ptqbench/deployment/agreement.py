"""How well what runs elsewhere agrees with the simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """What a program computes beside the simulation, on `rows` held-out states: largest and mean absolute difference, and the
    simulation's power over the difference's in dB."""

    rows: int
    largest: float
    mean: float
    snr: float

    @classmethod
    def of(cls, found: Tensor, wanted: Tensor) -> Agreement:
        difference = (found.double() - wanted.double()).abs()
        noise = float(difference.square().sum())
        snr = math.inf if noise == 0 else 10 * math.log10(float(wanted.double().square().sum()) / noise)
        return cls(len(wanted), float(difference.max()), float(difference.mean()), snr)

    def __str__(self) -> str:
        return f"{self.snr:.1f} dB, largest difference {self.largest:.2g}, mean {self.mean:.2g}, on {self.rows} held-out states"
