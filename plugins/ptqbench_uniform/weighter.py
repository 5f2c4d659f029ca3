"""The sample weighter `uniform`."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.roles.weighter import Batch, InnerProblem, SampleWeighter


class UniformWeighter(SampleWeighter):
    """Weights of exactly 1, so that the weighted loss is the plain mean."""

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """Ones (B,), on the device and in the precision of the batch's targets."""
        like = batch.target[0]
        return torch.ones(len(batch), dtype=like.dtype, device=like.device)
