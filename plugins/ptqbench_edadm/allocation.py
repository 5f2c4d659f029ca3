"""From the weights of sampling steps to whole numbers of samples."""

from __future__ import annotations

import torch
from torch import Tensor


def allocate(weights: Tensor, total: int) -> Tensor:
    """Counts (S,) int64 >= 0 that sum to `total`, in proportion to weights (S,) >= 0; equal ones if all weights are zero.

    Shares are rounded half to even. What is then missing goes to the largest counts, one each; what is too much is
    taken from the last steps that have any, one each (released EDA-DM).
    """
    weights = weights.double()
    share = weights / weights.sum() if float(weights.sum()) > 0 else torch.full_like(weights, 1 / len(weights))
    counts = (share * total).round().to(torch.int64)
    missing = total - int(counts.sum())
    # Rounding moves each count by at most one half, so one each is always enough.
    if missing >= 0:
        counts[counts.argsort(descending=True, stable=True)[:missing]] += 1
    else:
        counts[counts.nonzero().flatten()[missing:]] -= 1
    return counts


def capped(counts: Tensor, limit: int) -> Tensor:
    """Counts (S,) with none above `limit`: what is cut off goes to the next largest that have room. Needs sum <= S limit."""
    room = (limit - counts).clamp_min(0)
    excess = int((counts - limit).clamp_min(0).sum())
    counts = counts.clamp_max(limit)
    for step in counts.argsort(descending=True, stable=True).tolist():
        given = min(excess, int(room[step]))
        counts[step] += given
        excess -= given
    return counts
