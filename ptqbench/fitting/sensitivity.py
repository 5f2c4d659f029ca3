"""How much the network's prediction depends on each element of a unit's output: the diagonal of the Gauss-Newton matrix.

With J the derivative of a sample's noise prediction by a unit's output, a small error e of that output costs |J e|^2, about
sum_j e_j^2 (J^T J)_jj where its elements do not add up. With v of independent signs (J^T v)_j^2 has the mean (J^T J)_jj: a few
backward passes with random v estimate it (Hutchinson's estimator). The error that the network happens to have must not take the
place of v: a sample would count by its own error squared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.fitting.unit_data import Samples
from ptqbench.sampling.capture import Recording, outputs_of
from ptqbench.sampling.rng import stream
from ptqbench.sampling.sample import shards

COTANGENTS = 8
"""Random v for each sample. One would give each element the square of a sum of random signs, whose deviation from its mean is
as large as the mean; the deviation falls with the root of their number."""


@dataclass(frozen=True)
class Sensitivity:
    """Estimates on the full-precision network, where the expansion is made; `seed` names the random v."""

    samples: Samples
    seed: int
    cotangents: int = COTANGENTS

    def record(self, modules: Mapping[str, nn.Module]) -> dict[str, Recording]:
        """Square roots of the estimates in the shape of each module's outputs, root mean square 1 over the calibration set.

        All modules share their passes: one forward and `cotangents` backward for each sample.
        """
        found = {name: Recording() for name in modules}
        total = len(self.samples.calibration)
        for piece in shards(total, self.samples.batch):
            for name, squares in self.squares(modules, piece).items():
                found[name].add(tuple(leaf.sqrt() for leaf in squares), piece, total)
        for recording in found.values():
            _normalise(recording)
        return found

    def squares(self, modules: Mapping[str, nn.Module], piece: range) -> dict[str, tuple[Tensor, ...]]:
        """Estimates of diag(J^T J) for each output of each module, on these samples."""
        outputs: dict[str, tuple[Tensor, ...]] = {}
        with ExitStack() as stack, torch.enable_grad():
            for name, module in modules.items():
                handle = module.register_forward_hook(_noting(outputs, name))
                stack.callback(handle.remove)
            prediction = self.samples.predict(None, torch.tensor(piece, dtype=torch.int64, device="cpu"))
            leaves = [leaf for name in modules for leaf in outputs[name]]
            sums = [torch.zeros_like(leaf) for leaf in leaves]
            for k in range(self.cotangents):
                v = torch.stack([self._signs(k, i, prediction.shape[1:]) for i in piece]).to(prediction)
                kept = k + 1 < self.cotangents
                slopes = torch.autograd.grad(prediction, leaves, v, retain_graph=kept, allow_unused=True)
                for total, slope in zip(sums, slopes, strict=True):
                    if slope is not None:
                        total += slope.square()
        means = iter([(total / self.cotangents).detach() for total in sums])
        return {name: tuple(next(means) for _ in outputs[name]) for name in modules}

    def _signs(self, k: int, sample: int, shape: torch.Size) -> Tensor:
        """v number k of one sample, (*shape) of -1 and 1: it does not depend on the sample's batch."""
        rng = stream(self.seed, "cotangents", k, sample)
        return 2 * torch.randint(0, 2, shape, generator=rng, dtype=torch.int8, device="cpu") - 1


def _noting(outputs: dict[str, tuple[Tensor, ...]], name: str) -> Callable[..., Any]:
    """A hook that notes a module's outputs of its first call as tensors to differentiate by."""

    def hook(_module: nn.Module, _args: Any, out: Any) -> Any:
        if name in outputs:
            return out
        noted = tuple(o if o.requires_grad else o.detach().requires_grad_() for o in outputs_of(out))
        outputs[name] = noted
        # Copies go on: what comes next may change its input in place.
        passed = iter([o.clone() for o in noted])
        return tuple(None if o is None else next(passed) for o in out) if isinstance(out, tuple) else next(passed)

    return hook


def _normalise(recording: Recording) -> None:
    # In double precision on the host: where the recording found room decides neither the sum nor whether it fits.
    squares = sum(float(leaf.cpu().double().square().sum()) for leaf in recording.tensors)
    norm = (squares / sum(leaf.numel() for leaf in recording.tensors)) ** 0.5
    for leaf in recording.tensors:
        leaf.div_(norm if norm > 0 else 1.0)
