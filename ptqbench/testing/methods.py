"""Components of methods in a whole fit: each is put where it belongs, and the model is quantized twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ptqbench.boundary.build import owner_of
from ptqbench.errors import UserError
from ptqbench.failures import PluginFault
from ptqbench.testing.trial import Trial
from ptqbench.testing.world import CLOSED, METHOD, Network, quantize

WHOLE = ("weighter", "reconstruction", "partitioner")
"""Roles that can be seen in a whole fit only."""

NETWORKS: tuple[Network, ...] = ("plain", "unet")


def fits(trial: Trial) -> None:
    """A tiny model is quantized with it, and twice in the same way."""
    network, method, first = _first(trial)
    # Elsewhere the same question was asked of the component alone.
    if trial.bound.role in WHOLE:
        second = quantize(trial.manager, method, network)
        differ = [name for name, value in first.items() if not torch.equal(value, second[name])]
        if differ:
            remedy = "draw from the generators that calls are given, and keep nothing outside of instances"
            raise trial.fault(f"gave another {differ[0]} when the same was computed again", remedy)


def _first(trial: Trial) -> tuple[Network, dict[str, Any], dict[str, Tensor]]:
    """The first network and method that it can do with, and what became of them. Raises `UserError` if there is none."""
    refused: UserError | None = None
    for network in NETWORKS:
        for method in _methods(trial):
            try:
                return network, method, quantize(trial.manager, method, network)
            except PluginFault:
                raise
            except UserError as error:
                # It may want blocks, steps or trainables that this one does not have.
                refused = refused or error
    assert refused is not None
    raise UserError(f"{owner_of(trial.bound)} could not be tried in any method: {refused.message}", refused.hint)


def _methods(trial: Trial) -> Iterator[dict[str, Any]]:
    """Methods with the component in its place, the simplest that may do first: what fits do not ask anything of has none."""
    bound = trial.bound
    use = {"use": f"{bound.plugin}/{bound.name}", **bound.options.model_dump(mode="json", exclude_defaults=True)}
    role = bound.role
    if role == "reconstruction" and "closed-form" in bound.component.traits:
        yield METHOD | CLOSED | {role: use}
    elif role.endswith("-quantizer"):
        yield from _quantizing(trial, role.removesuffix("-quantizer") + "s", use)
    elif role == "range":
        yield METHOD | CLOSED | {site: CLOSED[site] | {"range": use} for site in ("weights", "activations")}
    elif role == "loss":
        yield METHOD | {"losses": [use]}
        yield METHOD | {"losses": [use, "output"]}
    elif role == "pass":
        yield METHOD | {"passes": [use]}
    elif role == "sampler-hook":
        yield METHOD | CLOSED | {"hooks": [use]}
    elif role == "sampler":
        yield METHOD | CLOSED | {role: use}
    elif role == "weighter":
        yield METHOD | {role: use}
        yield METHOD | {role: use, "losses": ["output", "haar"]}
    else:
        yield METHOD | {role: use}


def _quantizing(trial: Trial, site: str, use: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """With reconstructions that may learn what it has to learn, and, for activations, with grids for groups of steps."""
    own = [r.qualified for r in trial.manager.components("reconstruction") if r.plugin.name == trial.bound.plugin]
    learns = trial.bound.component.load().offers(trial.bound.options)  # type: ignore[attr-defined]
    base = METHOD if learns else METHOD | CLOSED
    for reconstruction in (*own, *(("brecq",) if learns else ("none",))):
        method = base | {"reconstruction": reconstruction}
        yield method | {site: base[site] | {"quantizer": use}}
        if site == "activations":
            yield method | {site: base[site] | {"quantizer": use, "steps": 2}}
