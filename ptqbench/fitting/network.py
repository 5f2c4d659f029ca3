"""The network's error as a function of one unit's trainables: what a weighter may validate on instead of the unit's output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.fitting.unit_data import Samples
from ptqbench.quant.model import QuantizedDenoiser


class Predictions:
    """Full precision's noise predictions on calibration samples, each computed when it is first asked for."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.known: dict[int, Tensor] = {}

    @torch.no_grad()
    def at(self, place: Tensor) -> Tensor:
        """The predictions (B, C, H, W) on the samples at these places, on the samples' device."""
        places = place.tolist()
        size, total = self.samples.batch, len(self.samples.calibration)
        # Batches of neighbours, whichever of them are asked for: another batch gives other last bits, and which samples were
        # asked for before depends on where a run was resumed.
        for start in sorted({i // size * size for i in places if i not in self.known}):
            piece = torch.arange(start, min(start + size, total), dtype=torch.int64, device="cpu")
            self.known |= zip(piece.tolist(), self.samples.predict(None, piece).cpu(), strict=True)
        return torch.stack([self.known[i] for i in places]).to(self.samples.device)


@dataclass(frozen=True)
class NetworkError:
    """The error of a network in which the layers and attentions `quantized` are, and all others are in full precision.

    These are a unit's own and those of the units before it: what comes later is not fitted yet, and its error, which fitting
    will remove, would drown the unit's.
    """

    samples: Samples
    predictions: Predictions
    q: QuantizedDenoiser
    quantized: Collection[str]

    def losses(self, place: Tensor, values: Mapping[Tensor, Tensor]) -> Tensor:
        """Mean squared error (B,) of the noise prediction on the samples at these places, with `values` for some parameters."""
        place = place.cpu()
        wanted = self.predictions.at(place)
        step = self.q.context.step
        try:
            with self.q.only(self.quantized):
                found = self.samples.predict(self.q.substituted(values), place)
        finally:
            self.q.context.step = step
        return (found - wanted).square().flatten(1).mean(1)
