"""The temporal information block: finding it in a denoiser, and computing it on its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain

import torch.nn.functional as F
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import Probe
from ptqbench_tfmq import TemporalOptions


@dataclass(frozen=True)
class TemporalNames:
    """Where the temporal block lies: the modules of the time MLP, applied in this order, and the timestep projections.

    `layers` are all probed layers of both, in execution order.
    """

    embedding: tuple[str, ...]
    projections: tuple[str, ...]
    layers: tuple[str, ...]


def find_temporal(probe: Probe, options: TemporalOptions) -> TemporalNames:
    """The temporal block of a probed denoiser. Raises `CellFailedError` naming the option that matches nothing."""
    names = [layer.name for layer in probe.layers]
    embedding = _outermost(name for name in probe.calls if matches(name, options.embedding) and _within(names, name))
    if not embedding:
        raise CellFailedError(
            f"the denoiser calls no module with layers that the option `embedding` names ({', '.join(options.embedding)})",
            "set `embedding` to the module that turns the code of the timestep into the time embedding",
        )
    if len(embedding) > 1 and not set(embedding) <= set(names):
        raise CellFailedError(
            f"the option `embedding` names several modules: {', '.join(embedding)}",
            "name one module, or the single layers that follow each other with SiLU between them",
        )
    mlp = [layer for module in embedding for layer in _within(names, module)]
    projections = [name for name in names if matches(name, options.projections) and name not in mlp]
    if not projections:
        raise CellFailedError(
            f"the denoiser executes no layer that the option `projections` names ({', '.join(options.projections)})",
            "set `projections` to the layers of the residual blocks that read the time embedding",
        )
    owned = {*mlp, *projections}
    return TemporalNames(tuple(embedding), tuple(projections), tuple(name for name in names if name in owned))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a dotted name fits any of the shell-style patterns; `*` spans dots."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _within(layers: Iterable[str], module: str) -> list[str]:
    return [layer for layer in layers if layer == module or layer.startswith(f"{module}.")]


def _outermost(calls: Iterable[str]) -> list[str]:
    """Names that lie inside none of the names before them; callers come before what they call."""
    found: list[str] = []
    for name in calls:
        if not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


class TemporalBlock(nn.Module):
    """From the inputs of the time MLP to the temporal features g_i(e) = Linear_i(act_i(e)) of all residual blocks.

    e is the time embedding (B, D): the `embedding` modules in order, with SiLU between them. Called with the arguments of
    the first of these modules; returns one tensor (B, C_i) for each of `projections`, pairs of act_i and Linear_i. All modules
    are shared with the denoiser that they come from (TFMQ-DM, section on temporal information block reconstruction).
    """

    def __init__(self, embedding: Sequence[nn.Module], projections: Sequence[tuple[nn.Module, nn.Module]]) -> None:
        super().__init__()
        self.embedding = nn.ModuleList(embedding)
        self.activations = nn.ModuleList(activation for activation, _ in projections)
        self.projections = nn.ModuleList(projection for _, projection in projections)

    def forward(self, *args: object, **kwargs: object) -> tuple[Tensor, ...]:
        first, *rest = self.embedding
        e: Tensor = first(*args, **kwargs)
        for module in rest:
            e = module(F.silu(e))
        pairs = zip(self.activations, self.projections, strict=True)
        return tuple(projection(activation(e)) for activation, projection in pairs)


def assemble_temporal(denoiser: nn.Module, module: str, layers: Sequence[str], projections: Sequence[str]) -> TemporalBlock:
    """The block of `denoiser` whose MLP starts at `module`: layers that are neither in it nor projections follow it.

    Raises `CellFailedError` if a residual block does not apply its activation to the time embedding.
    """
    rest = [name for name in layers if name not in projections and not _within([name], module)]
    embedding = [denoiser.get_submodule(name) for name in chain([module], rest)]
    pairs = [(activation_before(denoiser, name), denoiser.get_submodule(name)) for name in projections]
    return TemporalBlock(embedding, pairs)


def activation_before(denoiser: nn.Module, projection: str) -> nn.Module:
    """What a residual block applies to the time embedding before its projection: its own `nonlinearity`, else SiLU.

    Raises `CellFailedError` for a block that leaves it out (`skip_time_act` of diffusers), where features would be wrong.
    """
    block = denoiser.get_submodule(projection.rpartition(".")[0])
    if getattr(block, "skip_time_act", False):
        raise CellFailedError(
            f"{projection} reads the time embedding without an activation (skip_time_act)",
            "leave it out of the option `projections`, or use the partitioner `blocks`",
        )
    own = getattr(block, "nonlinearity", None)
    return own if isinstance(own, nn.Module) else nn.SiLU()
