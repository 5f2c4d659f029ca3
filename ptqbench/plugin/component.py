"""What a plugin registers: a light record per component, so that listing plugins never imports torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, Self

from pydantic import BaseModel, ConfigDict, model_validator

REMEDY = "keep what you compute in attributes of your own, or change a copy"


def refuse(*_: Any, **__: Any) -> NoReturn:
    """In place of everything that changes a value."""
    raise TypeError(f"the options of a component cannot be changed: {REMEDY}")


class FrozenList(list[Any]):
    """A list of options; its copies are plain lists."""

    append = extend = insert = remove = pop = clear = sort = reverse = refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = refuse

    def __reduce_ex__(self, _: Any) -> Any:
        return list, (list(self),)


class FrozenDict(dict[str, Any]):
    """A table of options; its copies are plain dictionaries."""

    update = setdefault = pop = popitem = clear = refuse
    __setitem__ = __delitem__ = __ior__ = refuse

    def __reduce_ex__(self, _: Any) -> Any:
        return dict, (dict(self),)


class FrozenSet(set[Any]):
    """A set of options; its copies are plain sets."""

    add = update = discard = remove = pop = clear = refuse
    difference_update = intersection_update = symmetric_difference_update = refuse
    __iand__ = __ior__ = __isub__ = __ixor__ = refuse

    def __reduce_ex__(self, _: Any) -> Any:
        return set, (set(self),)


def frozen(value: Any) -> Any:
    """The same value, with lists, tables and sets, also nested ones, that cannot be changed."""
    if isinstance(value, list):
        return FrozenList(map(frozen, value))
    if isinstance(value, dict):
        return FrozenDict({key: frozen(inner) for key, inner in value.items()})
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(frozen, value))
    return FrozenSet(value) if isinstance(value, set) else value


class Options(BaseModel):
    """Base class of a component's options: a frozen record whose fields carry defaults, bounds and descriptions.

    One class drives validation of recipes, `ptqbench describe` and the cache key. Lists and tables in it are frozen as well;
    changing anything raises `TypeError`.
    """

    # Built when first used: a process knows the options of all plugins and uses few.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    @model_validator(mode="after")
    def _freeze(self) -> Self:
        self.__dict__.update({name: frozen(self.__dict__[name]) for name in type(self).model_fields})
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        refuse()


class NoOptions(Options):
    """A component that has nothing to set."""


NOTES = {
    "deviations": "differs from the paper",
    "unstated": "not known from the paper",
    "released": "the released code",
}
"""What a component or preset says of its sources: the field, and what its entries go on from."""


@dataclass(frozen=True)
class Component:
    """One answer to the question of a role, one of `ptqbench.plugin.hookspecs.ROLES`.

    `target` is "package.module:Class", imported when a recipe uses the component; a single-file plugin may give the class
    itself. `traits` are words that the recipe check combines, for example a reconstruction with the trait "closed-form"
    refuses a weighter with the trait "learned". `defaults` names components of other roles that are used when a recipe names
    none, for example {"partitioner": "blocks"}.

    Three lists say how far it can be trusted to be the published method: `deviations`, where this code differs from the
    paper, as far as the paper is known; `unstated`, what the paper is not known to say, and what is done instead; `released`,
    what the authors' code does otherwise than this one. Each entry goes on from its heading in `NOTES`.
    """

    role: str
    name: str
    summary: str
    target: str | type
    options: type[Options] = NoOptions
    paper: str = ""
    deviations: tuple[str, ...] = ()
    traits: frozenset[str] = frozenset()
    defaults: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    released: tuple[str, ...] = ()
    unstated: tuple[str, ...] = ()

    def load(self) -> type:
        """Import and return the class behind `target`."""
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def create(self, options: Options | None = None, **context: Any) -> Any:
        """Build the component: every component class takes its options first, then what its role documents."""
        return self.load()(options if options is not None else self.options(), **context)


@dataclass(frozen=True)
class Preset:
    """A published method under one name: `table` is what [methods.NAME] would say, and a recipe may override any key of it.

    It names components of any plugin. `extends` names another preset, over whose table this one goes. `deviations`, `unstated`
    and `released` are those of the whole, as `Component` has them; components list their own.
    """

    role: ClassVar[str] = "method"

    name: str
    summary: str
    table: Mapping[str, Any]
    paper: str = ""
    deviations: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    unstated: tuple[str, ...] = ()
    extends: str = ""


@dataclass(frozen=True)
class Bound:
    """A component with validated options: what a recipe's `{ use = "...", ... }` becomes.

    `plugin` names the plugin that registered it and `fingerprint` hashes the plugin's source, so that editing a method
    never serves stale results.
    """

    component: Component
    options: Options
    plugin: str
    fingerprint: str

    @property
    def role(self) -> str:
        return self.component.role

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def key(self) -> dict[str, Any]:
        """What identifies this choice in a cache key."""
        return {
            "role": self.role,
            "name": self.name,
            "plugin": self.plugin,
            "version": self.component.version,
            "source": self.fingerprint,
            "options": self.options.model_dump(mode="json"),
        }

    def create(self, **context: Any) -> Any:
        """Build the component (see `Component.create`)."""
        return self.component.create(self.options, **context)
