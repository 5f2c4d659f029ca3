"""What the checks of all roles have in common: tensors, named tensors, numbers, and what must not be written into."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from ptqbench.boundary.call import Call


def described(value: Any) -> str:
    """A value for messages: a tensor by its type and shape, anything else by its type."""
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}" if isinstance(value, Tensor) else _type(value)


def _type(value: Any) -> str:
    return "nothing" if value is None else f"{value!r}" if isinstance(value, bool | int | float | str) else type(value).__name__


def check_tensor(call: Call, what: str, value: Any, shape: Iterable[int | None], like: Tensor | None = None) -> Tensor:
    """A floating-point tensor of this shape (None: any size), on the device of `like` if that is given.

    Raises what `Call.refused` makes, as all of these do.
    """
    wanted = tuple(shape)
    fits = (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.dim() == len(wanted)
        and all(size is None or size == got for size, got in zip(wanted, value.shape, strict=True))
    )
    if not fits:
        sizes = ", ".join("n" if size is None else str(size) for size in wanted)
        words = f"({sizes}{',' if len(wanted) == 1 else ''})"
        raise call.refused(f"gave {described(value)} as {what}", f"{what} is a tensor of floating-point numbers {words}")
    if like is not None and value.device != like.device:
        raise call.refused(f"gave {what} on {value.device}", f"{what} lies where its inputs do, on {like.device}")
    return value


def check_finite(call: Call, what: str, value: Tensor, remedy: str = "look for a division by zero or an overflow") -> None:
    """Every element is a finite number."""
    wrong = int((~torch.isfinite(value)).sum())
    if wrong:
        raise call.refused(f"gave {what} with {wrong} of {value.numel()} values that are not finite", remedy)


def cumulative(alphas: Tensor, *, flow: bool) -> bool:
    """Whether values may be cumulative alphas: within (0, 1], or from 0 on for a flow, which begins without any signal."""
    return bool((((alphas >= 0) if flow else (alphas > 0)) & (alphas <= 1)).all())


def check_named(call: Call, what: str, value: Any) -> dict[str, Tensor]:
    """Tensors by name."""
    if not isinstance(value, Mapping):
        raise call.refused(f"returned {described(value)} instead of {what}", "return a dict of tensors by name")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise call.refused(f"returned {described(tensor)} under {name!r} in {what}", "return a dict of tensors by name")
    return dict(value)


def number(call: Call, what: str, value: Any) -> float:
    """A finite real number as a float; those of numpy are taken, tensors and complex numbers are not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise call.refused(f"gave {described(value)} as {what}", "give a real number, float(x) or x.item() of a tensor")
    if not math.isfinite(value):
        raise call.refused(f"gave {float(value)} as {what}", "raise CellFailedError where a number would mean nothing")
    return float(value)


def count(call: Call, what: str, value: Any, least: int = 1) -> int:
    """A whole number from `least` on, as an int."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise call.refused(f"gave {described(value)} as {what}", f"give a whole number from {least} on")
    return int(value)


Held = list[tuple[str, Tensor, int]]


def held(tensors: Iterable[tuple[str, Tensor]]) -> Held:
    """Named tensors that belong to the core, as they are now."""
    # Those of inference mode count no versions.
    return [(name, tensor, tensor._version) for name, tensor in tensors if not tensor.is_inference()]


def check_held(call: Call, before: Held) -> None:
    """Nothing was written into them since."""
    changed = [name for name, tensor, version in before if tensor._version != version]
    if changed:
        raise call.refused(
            f"wrote into {', '.join(changed)}", "what a component gets belongs to others; change a copy, x.clone()"
        )


def named_tensors(prefix: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in tuples, lists and mappings, with names for people."""
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from named_tensors(f"{prefix}[{key!r}]", inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from named_tensors(prefix, inner)


def fields(prefix: str, value: object, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors in some attributes of an object."""
    for name in names:
        yield from named_tensors(f"{prefix}.{name}", getattr(value, name))
