"""What units see and produce: inputs and outputs of submodules over the calibration set, captured by hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ptqbench.errors import CellFailedError
from ptqbench.sampling.sample import shards
from ptqbench.stage.memory import fits_on
from ptqbench.stage.spill import room

Run = Callable[[range], object]
"""Evaluates a denoiser on a range of calibration samples."""


class _Reached(BaseException):
    """Raised by a hook to end a forward pass once everything wanted has been seen; never leaves this module."""


@dataclass
class Recording:
    """Tensors of one kind (the inputs, or the outputs, of one module), sample by sample.

    Leaves with a row for each sample are stacked over all samples; everything else is kept from the first call. Which ones
    they are is told by `single`, a recording of one sample: a table whose first axis happens to be as long as a batch has
    as many rows there too. With `as_they_lie` tensors keep the order of their axes in memory, on which last bits of what is
    computed from them depend.
    """

    single: Recording | None = None
    as_they_lie: bool = False
    leaves: list[Any] = field(default_factory=list)
    spec: Any = None
    stacked: list[bool] = field(default_factory=list)
    filled: int = 0

    def add(self, value: Any, batch: range, total: int) -> None:
        """The value of a module for the samples `batch` of `total`.

        Raises `CellFailedError` if it has more or fewer parts than for a single sample, or several rows for each.
        """
        leaves, spec = tree_flatten(value)
        size = len(batch)
        if not self.leaves:
            self.spec = spec
            self.stacked = self._per_sample(leaves, size)
            self.leaves = [
                _storage(leaf, total, as_it_lies=self.as_they_lie) if stack else leaf
                for leaf, stack in zip(leaves, self.stacked, strict=True)
            ]
        for store, leaf, stack in zip(self.leaves, leaves, self.stacked, strict=True):
            if stack:
                store[batch.start : batch.stop] = leaf
        self.filled += size

    def _per_sample(self, leaves: list[Any], size: int) -> list[bool]:
        fits = [isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[0] == size for leaf in leaves]
        if self.single is None:
            return fits
        if len(self.single.stacked) != len(fits):
            message = f"a module gets {len(fits)} values in a batch of {size} and {len(self.single.stacked)} for one sample"
            raise CellFailedError(message, "choose other units")
        for leaf, one, fit in zip(leaves, self.single.leaves, fits, strict=True):
            if not fit and isinstance(leaf, Tensor) and isinstance(one, Tensor) and leaf.shape != one.shape:
                shapes = f"{tuple(one.shape)} for one sample and {tuple(leaf.shape)} for {size}"
                message = f"a module gets a tensor {shapes}: it is not known which of its rows are a sample's"
                raise CellFailedError(message, "choose other units")
        return [fit and one for fit, one in zip(fits, self.single.stacked, strict=True)]

    def take(self, index: Tensor, device: torch.device) -> Any:
        """The structure for samples `index`, on `device`."""
        return self._rows(lambda leaf: leaf.index_select(0, index.to(leaf.device)).to(device))

    def rows(self, piece: range, device: torch.device) -> Any:
        """The structure for consecutive samples, on `device`, as they lie in the recording; a copy."""
        return self._rows(lambda leaf: leaf[piece.start : piece.stop].to(device, copy=True))

    def _rows(self, chosen: Callable[[Tensor], Tensor]) -> Any:
        leaves = [chosen(leaf) if stack else leaf for leaf, stack in zip(self.leaves, self.stacked, strict=True)]
        return tree_unflatten(leaves, self.spec)

    @property
    def tensors(self) -> list[Tensor]:
        return [leaf for leaf, stack in zip(self.leaves, self.stacked, strict=True) if stack]

    @property
    def bytes_per_sample(self) -> int:
        return sum(t[0].numel() * t.element_size() for t in self.tensors)


def outputs_of(out: Any) -> tuple[Any, ...]:
    """What a module gives, one by one; the last of joint blocks, which leaves the text as it is, gives None for it."""
    return tuple(leaf for leaf in out if leaf is not None) if isinstance(out, tuple) else (out,)


Recorded = tuple[Recording, Recording]
"""Inputs and outputs."""


def _storage(leaf: Tensor, total: int, *, as_it_lies: bool = False) -> Tensor:
    """Room for `total` samples like those in `leaf`: beside them while that leaves half of the device's memory free, so that
    mini-batches need no copy from the host, else on the host."""
    shape = (total, *leaf.shape[1:])
    axes = sorted(range(leaf.dim()), key=leaf.stride, reverse=True) if as_it_lies else list(range(leaf.dim()))
    if leaf.device.type == "cpu" or not fits_on(leaf.device, math.prod(shape) * leaf.element_size()):
        return room(shape, leaf.dtype, axes)
    return torch.empty_permuted(shape, axes, dtype=leaf.dtype, device=leaf.device)


def record_one(run: Run, modules: Mapping[str, nn.Module], *, inputs: bool, outputs: bool) -> dict[str, Recorded]:
    """Like `record`, for the first sample alone: what it takes, and what of it has a row for each sample."""
    return record(run, modules, {}, total=1, batch=1, inputs=inputs, outputs=outputs)


@torch.no_grad()
def record(
    run: Run,
    modules: Mapping[str, nn.Module],
    single: Mapping[str, Recorded],
    *,
    total: int,
    batch: int,
    inputs: bool,
    outputs: bool,
) -> dict[str, Recorded]:
    """Inputs and outputs of the first call of each module over `total` samples, `batch` at a time.

    `single` has what `record_one` found of the same modules, in any precision. A pass ends as soon as the last of the
    modules has been seen. Raises `CellFailedError` for a module that never runs, or whose outputs are not tensors with one
    row for each sample.
    """
    records = {name: (Recording(single[name][0] if name in single else None), Recording()) for name in modules}
    for piece in shards(total, batch):
        _one_pass(run, modules, records, piece, total, inputs=inputs, outputs=outputs)
    return records


def _one_pass(
    run: Run,
    modules: Mapping[str, nn.Module],
    records: Mapping[str, Recorded],
    piece: range,
    total: int,
    *,
    inputs: bool,
    outputs: bool,
) -> None:
    watch = _Watch(records, piece, total, inputs=inputs, outputs=outputs)
    handles = []
    for name, module in modules.items():
        handles.append(module.register_forward_pre_hook(partial(watch.before, name), with_kwargs=True))
        if outputs:
            handles.append(module.register_forward_hook(partial(watch.after, name)))
    try:
        run(piece)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if watch.waiting:
        names = ", ".join(sorted(watch.waiting))
        raise CellFailedError(f"never called during a forward pass: {names}", "leave them out of the units")


class _Watch:
    """Hooks of one pass over the samples `piece`: the first call of every module is recorded, the last one ends the pass."""

    def __init__(self, records: Mapping[str, Recorded], piece: range, total: int, *, inputs: bool, outputs: bool) -> None:
        self.records, self.piece, self.total = records, piece, total
        self.inputs, self.outputs = inputs, outputs
        self.waiting = set(records)

    def before(self, name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a module runs."""
        if name in self.waiting and self.inputs:
            self.records[name][0].add((args, kwargs), self.piece, self.total)
        if not self.outputs:
            self._done(name)

    def after(self, name: str, _: nn.Module, args: Any, out: Any) -> None:
        """After a module ran."""
        if name in self.waiting:
            found = outputs_of(out)
            if not all(isinstance(leaf, Tensor) and leaf.shape[:1] == (len(self.piece),) for leaf in found):
                message = f"{name} does not give tensors with one row for each sample"
                raise CellFailedError(message, "choose other units")
            self.records[name][1].add(found, self.piece, self.total)
        self._done(name)

    def _done(self, name: str) -> None:
        self.waiting.discard(name)
        if not self.waiting:
            raise _Reached


def groups_within(sizes: Mapping[str, int], budget: int) -> list[list[str]]:
    """Consecutive names whose sizes (bytes) sum to at most `budget`; a single larger one stands alone."""
    groups: list[list[str]] = []
    used = 0
    for name, size in sizes.items():
        if not groups or used + size > budget:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    return groups
