"""What units see and produce: inputs and outputs of submodules over the calibration set, captured by hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ptqbench.errors import CellFailedError

Run = Callable[[range], object]
"""Evaluates a denoiser on a range of calibration samples."""


class _Reached(BaseException):
    """Raised by a hook to end a forward pass once everything wanted has been seen; never leaves this module."""


@dataclass
class Recording:
    """Tensors of one kind (the inputs, or the outputs, of one module), sample by sample.

    Leaves whose first axis is the batch are stacked over all samples; everything else is kept from the first call.
    """

    leaves: list[Any] = field(default_factory=list)
    spec: Any = None
    stacked: list[bool] = field(default_factory=list)
    filled: int = 0

    def add(self, value: Any, batch: range, total: int) -> None:
        leaves, spec = tree_flatten(value)
        size = len(batch)
        if not self.leaves:
            self.spec = spec
            self.stacked = [isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[0] == size for leaf in leaves]
            self.leaves = [
                torch.empty((total, *leaf.shape[1:]), dtype=leaf.dtype, device="cpu") if stack else leaf
                for leaf, stack in zip(leaves, self.stacked, strict=True)
            ]
        for store, leaf, stack in zip(self.leaves, leaves, self.stacked, strict=True):
            if stack:
                store[batch.start : batch.stop] = leaf
        self.filled += size

    def take(self, index: Tensor, device: torch.device) -> Any:
        """The structure for samples `index`, on `device`."""
        leaves = [leaf[index].to(device) if stack else leaf for leaf, stack in zip(self.leaves, self.stacked, strict=True)]
        return tree_unflatten(leaves, self.spec)

    @property
    def tensors(self) -> list[Tensor]:
        return [leaf for leaf, stack in zip(self.leaves, self.stacked, strict=True) if stack]

    @property
    def bytes_per_sample(self) -> int:
        return sum(t[0].numel() * t.element_size() for t in self.tensors)


@torch.no_grad()
def record(
    run: Run, modules: Mapping[str, nn.Module], *, total: int, batch: int, inputs: bool, outputs: bool
) -> dict[str, tuple[Recording, Recording]]:
    """Inputs and outputs of the first call of each module over `total` samples, `batch` at a time.

    A pass ends as soon as the last of the modules has been seen. Raises `CellFailedError` for a module that never runs,
    or whose outputs are not tensors with one row for each sample.
    """
    records = {name: (Recording(), Recording()) for name in modules}
    for piece in _pieces(total, batch):
        _one_pass(run, modules, records, piece, total, inputs=inputs, outputs=outputs)
    return records


def _pieces(total: int, batch: int) -> Iterator[range]:
    return (range(start, min(start + batch, total)) for start in range(0, total, batch))


def _one_pass(
    run: Run,
    modules: Mapping[str, nn.Module],
    records: Mapping[str, tuple[Recording, Recording]],
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

    def __init__(
        self, records: Mapping[str, tuple[Recording, Recording]], piece: range, total: int, *, inputs: bool, outputs: bool
    ) -> None:
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
            found = out if isinstance(out, tuple) else (out,)
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
