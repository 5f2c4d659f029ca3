"""Which sites cost a quantized network most: its error with one of them back in full precision, the others as they are."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.intervals import mean_interval
from ptqbench.measuring.measure import squared_errors
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.results.record import Number
from ptqbench.sampling.reference import predict_states, probe_states
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext
from ptqbench.stage.predictor import Predictor
from ptqbench.stage.stages import Tell


def restored_sites(
    ctx: RunContext, q: QuantizedDenoiser, predictor: Predictor, trajectories: int, tell: Tell
) -> dict[str, Number]:
    """For each layer and attention, the share of the latent-error that goes when its weights, inputs or products are left in
    full precision: 0.2 where a fifth of the error goes, below 0 where the error grows. The largest comes first.

    On the first `trajectories` of the held-out ones, at their full-precision states. The interval is over trajectories, of
    differences that are paired; the whole error, which they are a share of, counts as known. Nothing is fitted anew, and
    shares need not add up to 1: errors cancel, and those after a site react to it.

    Raises `CellFailedError` for fewer than two trajectories, or a network without any error.
    """
    states = {name: value[:trajectories] for name, value in probe_states(ctx, Costs()).items() if name in ("x", "eps")}
    names = list(q.sites)

    def errors(quantized: Collection[str]) -> Tensor:
        with torch.inference_mode(), q.only(quantized):
            return _latent_errors(ctx, predictor, states["x"], states["eps"])

    whole = errors(names)
    if not bool(whole.any()):
        raise CellFailedError("the network has no error that a site could have a share of", "name a cell that quantizes more")
    found = {}
    for i, name in enumerate(names):
        tell(name, i / len(names))
        gained = whole - errors([other for other in names if other != name])
        share = mean_interval((gained / whole.mean()).numpy())
        found[name] = Number(share.value, share.low, share.high, len(whole), "higher", unit="trajectories")
    return dict(sorted(found.items(), key=lambda site: -site[1].value))


def _latent_errors(ctx: RunContext, predictor: Predictor, x: Tensor, eps: Tensor) -> Tensor:
    """The latent-error (P,) of each trajectory, float64: squared errors of a step's prediction times the square of the
    sampler's factor for it, over all steps."""
    steps = []
    for s, gain in enumerate(ctx.schedule.gains.double().tolist()):
        found = predict_states(ctx, predictor, x[:, s], s, "probe").eps
        steps.append(gain**2 * squared_errors(found, eps[:, s]))
    return torch.stack(steps).mean(0).cpu()
