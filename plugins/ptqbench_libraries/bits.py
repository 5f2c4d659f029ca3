"""Bits that a library has a setting for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ptqbench.errors import CellFailedError

T = TypeVar("T")


def setting_for(library: str, known: Mapping[tuple[int, int], T], bits: tuple[int, int]) -> T:
    """The library's setting for bits of weights and activations. Raises `CellFailedError` with those that there are."""
    if bits not in known:
        labels = ", ".join(f"W{weights}A{activations}" for weights, activations in known)
        raise CellFailedError(f"{library} has no setting for W{bits[0]}A{bits[1]}", f"here it has {labels}")
    return known[bits]
