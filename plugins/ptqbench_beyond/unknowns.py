"""What is learned beside the unit: a weight for each training sample, and weights of the Haar bands for each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ptqbench.fitting.scores import ScoreAdam
from ptqbench_beyond import SampleFrequencyOptions
from ptqbench_beyond.haar import BANDS, EQUAL

TERM = "haar"


class SampleWeights:
    """Scores (N,) that start equal, follow Adam, and weigh a mini-batch with mean 1."""

    def __init__(self, count: int, device: torch.device, options: SampleFrequencyOptions) -> None:
        self.softmax = options.normalise == "softmax"
        self.scores = (torch.zeros if self.softmax else torch.ones)(count, device=device)
        self.optimiser = ScoreAdam(self.scores, options.sample_rate)

    def leaf(self, index: Tensor) -> Tensor:
        """The scores of some samples, as a leaf to differentiate by."""
        return self.scores[index].clone().requires_grad_()

    def normalised(self, scores: Tensor) -> Tensor:
        """Weights >= 0 of mean 1 from scores, differentiable; scores that are all zero weigh alike."""
        if self.softmax:
            return len(scores) * torch.softmax(scores, dim=0)
        if not bool(scores.any()):
            # Shifted, so that they keep a derivative and may leave zero again.
            scores = scores + 1
        return scores / scores.mean()

    def of(self, index: Tensor) -> Tensor:
        """The weights (B,) of some samples as a mini-batch."""
        return self.normalised(self.scores[index])

    def step(self, index: Tensor, slope: Tensor) -> None:
        """One step of Adam on the scores of some samples."""
        self.optimiser.step(index, slope)
        if not self.softmax:
            self.scores.clamp_(min=0)


class BandWeights:
    """A table lambda (S, 4) over sampling steps and bands; each row lies on the simplex, no entry below a floor."""

    def __init__(self, steps: int, device: torch.device, options: SampleFrequencyOptions) -> None:
        self.floor = options.floor
        self.table = torch.full((steps, len(BANDS)), EQUAL, device=device)
        self.optimiser = torch.optim.Adam([self.table], lr=options.frequency_rate)

    def leaf(self) -> Tensor:
        """The table, as a leaf to differentiate by."""
        return self.table.clone().requires_grad_()

    def factors(self, step: Tensor, table: Tensor | None = None) -> dict[str, Tensor]:
        """How often each part of the Haar term counts, (B,) each: 1 where the bands' weights are equal."""
        rows = (self.table if table is None else table)[step] / EQUAL
        return {f"{TERM}.{band}": rows[:, k] for k, band in enumerate(BANDS)}

    def step(self, slope: Tensor) -> None:
        """One step of Adam along the simplex, then back onto it."""
        # What all bands of a row have in common leads off the simplex, and would decide the signs of Adam's first steps.
        self.table.grad = (slope - slope.mean(1, keepdim=True)).to(self.table.dtype)
        self.optimiser.step()
        self.table.copy_(on_simplex(self.table, self.floor))


def on_simplex(rows: Tensor, floor: float) -> Tensor:
    """The nearest rows with sum 1 and entries >= floor (Euclidean projection by sorting), (n, k) with k floor < 1."""
    count = rows.shape[1]
    mass = 1 - count * floor
    scaled = (rows - floor) / mass
    ordered = scaled.sort(dim=1, descending=True).values
    excess = (ordered.cumsum(1) - 1) / torch.arange(1, count + 1, device=rows.device)
    kept = (ordered > excess).sum(1, keepdim=True)
    return floor + mass * (scaled - excess.gather(1, kept - 1)).clamp_min(0)


def low_share(table: Tensor) -> Tensor:
    """r (S,): the weight of the low band over that of the three others together."""
    return table[:, 0] / table[:, 1:].sum(1)


def regulariser(table: Tensor) -> Tensor:
    """Sum over neighbouring steps of max(0, r_later - r_earlier): the low-frequency share must not rise as noise fades."""
    share = low_share(table)
    return (share[1:] - share[:-1]).clamp_min(0).sum()


def weighed(parts: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> Tensor:
    """The sum of all parts (B,), those named in `factors` multiplied by theirs, differentiable in both."""
    return torch.stack([value * factors[name] if name in factors else value for name, value in parts.items()]).sum(0)
