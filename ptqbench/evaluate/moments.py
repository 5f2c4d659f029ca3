"""Mean and covariance of feature vectors: exact to join and to take apart, so that large sets are read in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.chunks import regroup

ROWS = 1024
"""Rows that are multiplied at a time when a set is read in pieces."""


@dataclass(frozen=True)
class Gaussian:
    """What a Frechet distance compares: mean (D,) and covariance (D, D), float64."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean (D,) and scatter (D, D) of a set: scatter is the sum over rows of (x - mean)(x - mean)^T, float64.

    Sets are joined and taken apart exactly, so large sets can be read in pieces.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of features (N, D). Raises `CellFailedError` for an empty set or a value that is not finite."""
        x = checked(features, least=1)
        mean = x.mean(dim=0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    @classmethod
    def over(cls, parts: Iterable[Tensor]) -> Moments:
        """Moments of all parts (n, D) together, read one after another; errors as for `of`."""
        found: Moments | None = None
        for part in regroup(parts, ROWS):
            more = cls.of(part)
            found = more if found is None else found.plus(more)
        if found is None:
            raise CellFailedError("there are no images to measure", "raise sampling.images")
        return found

    def plus(self, other: Moments) -> Moments:
        """The moments of both sets together."""
        count = self.count + other.count
        shift = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter.addr_(shift, shift, alpha=self.count * other.count / count)
        return Moments(count, self.mean + shift * (other.count / count), scatter)

    def minus(self, part: Moments) -> Moments:
        """The moments of what remains when `part`, a proper subset, is taken away."""
        count = self.count - part.count
        if count < 1:
            raise ValueError(f"nothing remains of {self.count} rows without {part.count}")
        mean = self.mean + (self.mean - part.mean) * (part.count / count)
        shift = part.mean - mean
        scatter = self.scatter - part.scatter
        scatter.addr_(shift, shift, alpha=-count * part.count / self.count)
        return Moments(count, mean, scatter)

    def covariance(self) -> Tensor:
        """Unbiased covariance (D, D)."""
        return self.scatter / (self.count - 1)

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance."""
        return Gaussian(self.mean, self.covariance())


def checked(features: Tensor, least: int) -> Tensor:
    """Features (N, D) as float64 on the CPU. Raises `CellFailedError` below `least` rows or for values that are not finite."""
    require_rows(len(features), features.shape[1], least)
    if not bool(torch.isfinite(features).all()):
        raise CellFailedError("features are not finite", "look at this cell's images and at the extractor")
    return features.to(device="cpu", dtype=torch.float64)


def require_rows(count: int, width: int, least: int) -> None:
    """Raises `CellFailedError` if `count` images are fewer than `least`."""
    if count < least:
        raise CellFailedError(
            f"{count} images are too few: this distance on {width} features needs at least {least}",
            f"generate more images (sampling.images = {least} or more), or give a larger reference set",
        )
