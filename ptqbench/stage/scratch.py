"""A cache that is none: stage results in memory, for as long as the stage that makes them needs them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ptqbench.stage.cache import Cache, Entry


@dataclass(frozen=True)
class ScratchEntry(Entry):
    """A stage result in memory. Tensors are copied on the way in and out, as a file's would be."""

    held: dict[str, Any] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        return name in self.held

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self.save_json(name, {key: value.detach().cpu().clone() for key, value in tensors.items()})

    def load_tensors(self, name: str) -> dict[str, Tensor]:
        return {key: value.clone() for key, value in self.held[name].items()}

    def save_json(self, name: str, data: Any) -> None:
        self._ask(self.check)
        self.held[name] = data
        self._ask(self.saved)

    def load_json(self, name: str) -> Any:
        return self.held[name]


class ScratchCache(Cache):
    """Stands in for a cache where one quantization runs alone: reports (JSON) stay, a finished stage's tensors are let go."""

    def __init__(self) -> None:
        super().__init__(Path("scratch"))
        self._entries: dict[tuple[str, str], ScratchEntry] = {}

    def entry(self, stage: str, key: str) -> ScratchEntry:
        return self._entries.setdefault((stage, key), ScratchEntry(self.root / stage / key))

    @contextlib.contextmanager
    def locked(self, stage: str, key: str) -> Iterator[ScratchEntry]:
        """The entry; nobody else can ask for it."""
        entry = self.entry(stage, key)
        yield entry
        for name in [name for name in entry.held if not name.endswith(".json")]:
            del entry.held[name]
