"""Recording a network's modules one after the other without computing the network anew each time.

A pass for one module needs the outputs of the modules that it reads from. Where these no longer change, they are kept from an
earlier pass and stand in for the modules; modules whose outputs nobody reads any more are not computed at all. What is recorded
has the same bits as in a whole pass, since the same operations see the same values, and a whole pass is what happens where
memory does not suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ptqbench.sampling.capture import Recorded, Recording, Run, record
from ptqbench.sampling.links import Links


@dataclass
class Replay:
    """Passes over `total` samples, `batch` at a time, through the network that `run` evaluates.

    `places` are the paths of its modules, by the names that `links` and `single` know them by: their links and recordings of
    one sample, of this network or of the one that it is a copy of. Outputs are kept in at most `budget` bytes.
    """

    run: Run
    network: nn.Module
    places: Mapping[str, str]
    links: Links
    single: Mapping[str, Recorded]
    total: int
    batch: int
    budget: int
    kept: dict[str, Recording] = field(default_factory=dict)

    def record(
        self, names: Sequence[str], *, settled: Collection[str], later: Collection[str], inputs: bool, outputs: bool
    ) -> dict[str, Recorded]:
        """Inputs and outputs of some modules (see `capture.record`).

        Outputs of `settled` modules do not change after this pass, nor anything that they depend on. `later` are those that
        will be asked for in later passes.
        """
        known = {name: kept for name, kept in self.kept.items() if name not in names and kept.filled == self.total}
        computed = self.links.behind(names, known)
        left_out = self._left_out(names, computed)
        # Modules that are not settled will be computed in the next pass.
        readers = [*later, *(name for name in names if name not in settled)]
        self.kept = self._worth_keeping(known, {*computed, *names} & set(settled), readers)
        fresh = {name: recording for name, recording in self.kept.items() if name not in known}

        def run(piece: range) -> object:
            with self._shortened(known, left_out, fresh, piece):
                return self.run(piece)

        found = self._plain(run, names, inputs=inputs, outputs=outputs)
        if left_out and _tainted(found):
            # Something was read that the traced pass did not show. It may as well be a network that has diverged.
            self.kept = {}
            return self._plain(self.run, names, inputs=inputs, outputs=outputs)
        return found

    def _plain(self, run: Run, names: Sequence[str], *, inputs: bool, outputs: bool) -> dict[str, Recorded]:
        modules = {name: self._module(name) for name in names}
        return record(run, modules, self.single, total=self.total, batch=self.batch, inputs=inputs, outputs=outputs)

    def _module(self, name: str) -> nn.Module:
        return self.network.get_submodule(self.places[name])

    def _left_out(self, names: Sequence[str], computed: set[str]) -> list[str]:
        """The modules that need not run: whose output is known here, or read by nothing that has to be computed."""
        running = [self.places[name] for name in (*names, *computed)]
        return [
            name
            for name, place in self.places.items()
            if name in self.links.outputs and not any(holds(place, other) for other in running)
        ]

    def _worth_keeping(self, known: Mapping[str, Recording], new: set[str], readers: Collection[str]) -> dict[str, Recording]:
        """What is still read of the outputs that are known and of those that are new.

        Where they are too large together, the first ones go, which take the shortest way to compute again.
        """
        read = {source for name in readers for source in self.links.reads.get(name, ())}
        candidates = [
            name for name in self.places if name in read and (name in known or name in new & self.links.outputs.keys())
        ]
        while sum(self.links.outputs[name].bytes_per_sample for name in candidates) * self.total > self.budget:
            candidates.pop(0)
        return {name: known.get(name) or Recording(self.links.outputs[name], as_they_lie=True) for name in candidates}

    @contextmanager
    def _shortened(
        self, known: Mapping[str, Recording], left_out: Sequence[str], fresh: Mapping[str, Recording], piece: range
    ) -> Iterator[None]:
        """Meanwhile modules that are left out give what is known of them, and outputs that are new are kept."""
        with ExitStack() as stack:
            for name in left_out:
                stack.enter_context(_standing_in(self._module(name), partial(self._output, known.get(name), name, piece)))
            for name, recording in fresh.items():
                hook = partial(_keep, recording, piece, self.total, set())
                # Before the hook that ends the pass.
                stack.enter_context(self._module(name).register_forward_hook(hook, prepend=True))
            yield

    def _output(self, known: Recording | None, name: str, piece: range) -> Any:
        """What a module gives for these samples; if it is not known, because it is not read, something that would show."""
        if known is not None:
            return known.rows(piece, self._device)
        first = torch.zeros(len(piece), dtype=torch.int64, device="cpu")
        one = self.links.outputs[name].take(first, self._device)
        return tree_map_only(Tensor, _unreadable, one)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def holds(place: str, other: str) -> bool:
    """Whether the module at `place` is, or contains, the one at `other`."""
    return place in ("", other) or other.startswith(f"{place}.")


def _unreadable(tensor: Tensor) -> Tensor:
    """As large, and not a number: nobody reads it unseen."""
    return torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor


def _tainted(found: Mapping[str, Recorded]) -> bool:
    tensors = [tensor for recorded in found.values() for recording in recorded for tensor in recording.tensors]
    return any(bool(tensor.isnan().any()) for tensor in tensors if tensor.is_floating_point())


def _keep(recording: Recording, piece: range, total: int, seen: set[int], _: nn.Module, __: Any, out: Any) -> None:
    """Records a module's first output in a pass."""
    if not seen:
        recording.add(out, piece, total)
        seen.add(piece.start)


@contextmanager
def _standing_in(module: nn.Module, output: Callable[[], Any]) -> Iterator[None]:
    """Meanwhile the module's first call gives `output()`; later calls, with other inputs, compute."""
    forward, patched = module.forward, "forward" in vars(module)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        module.forward = forward
        return output()

    module.forward = replaced
    try:
        yield
    finally:
        if patched:
            module.forward = forward
        else:
            vars(module).pop("forward", None)
