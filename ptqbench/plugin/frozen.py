"""Lists, tables and sets that cannot be changed, for options: results are kept under what a recipe says."""

from __future__ import annotations

from typing import Any, NoReturn

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
