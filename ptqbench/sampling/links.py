"""How the outputs of some modules of a network reach the inputs of others, seen in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ptqbench.sampling.capture import Recording

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Links:
    """`reads` names for each module those whose outputs its inputs are computed from, by whatever lies between modules.

    `outputs` has one sample's output of each module that its output can stand in for: that the pass finished, and that changed
    none of its inputs in place.
    """

    reads: dict[str, frozenset[str]] = field(default_factory=dict)
    outputs: dict[str, Recording] = field(default_factory=dict)

    def behind(self, names: Collection[str], known: Collection[str]) -> set[str]:
        """The modules, other than `names`, that have to be computed for the inputs of `names`, where outputs of `known` are
        known already."""
        found: set[str] = set()
        open_ = set(names)
        while open_:
            read = {source for name in open_ for source in self.reads.get(name, NOTHING)}
            open_ = read - set(known) - found - set(names)
            found |= open_
        return found


@contextmanager
def tracing(modules: Mapping[str, nn.Module]) -> Iterator[Links]:
    """Links of the first calls of these modules, in what runs meanwhile on one sample; at the end they are complete.

    Every tensor carries the names of the modules that it was computed from, until it enters a module: what comes out carries
    that module's name alone. In-place operations and views are followed, since names belong to storages.
    """
    found, sources = Links(), _Sources()
    with ExitStack() as stack:
        for name, module in modules.items():
            call = _Call(name, found, sources)
            stack.enter_context(module.register_forward_pre_hook(call.enter, with_kwargs=True))
            stack.enter_context(module.register_forward_hook(call.leave))
        stack.enter_context(sources)
        yield found


@dataclass
class _Call:
    """Hooks for the first call of a module."""

    name: str
    found: Links
    sources: _Sources
    versions: list[tuple[Tensor, int]] = field(default_factory=list)
    over: bool = False

    def enter(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if self.name not in self.found.reads:
            self.found.reads[self.name] = self.sources.of((args, kwargs))
            self.versions = [(tensor, tensor._version) for tensor in _tensors((args, kwargs))]

    def leave(self, _: nn.Module, __: Any, out: Any) -> Any:
        if self.over:
            return out
        self.over = True
        # A copy: an output may be a view of what another module made.
        fresh = tree_map_only(Tensor, lambda tensor: tensor.clone(), out)
        self.sources.mark(fresh, frozenset({self.name}))
        if all(tensor._version == version for tensor, version in self.versions):
            one = Recording()
            one.add(fresh, range(1), 1)
            self.found.outputs[self.name] = one
        return fresh


class _Sources(TorchDispatchMode):
    """Notes for each storage which modules' outputs went into it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[int, frozenset[str]] = {}
        # Or addresses would be used again.
        self.alive: list[Tensor] = []

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        names = self.of((args, kwargs))
        if names:
            self.mark(out, names | self.of(out))
        return out

    def of(self, values: Any) -> frozenset[str]:
        """The modules that any tensor among `values` was computed from."""
        return NOTHING.union(*(self.names.get(_address(tensor), NOTHING) for tensor in _tensors(values)))

    def mark(self, values: Any, names: frozenset[str]) -> None:
        """Note that the tensors among `values` were computed from these modules' outputs."""
        for tensor in _tensors(values):
            self.names[_address(tensor)] = names
            self.alive.append(tensor)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
