"""The model source "random-pipeline": one of the small random pipelines, built on the spot and read like any other."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from ptqbench.roles.model import DiffusionModel, ModelSource
from ptqbench_diffusers import DiffusersOptions, RandomOptions
from ptqbench_diffusers.random_pipelines import save_random
from ptqbench_diffusers.random_text import FLUX_SIZE
from ptqbench_diffusers.source import DiffusersSource


class RandomSource(ModelSource):
    """A pipeline of the chosen architecture with random weights: for trying recipes out, and never for judging methods."""

    options: RandomOptions

    def __init__(self, options: RandomOptions) -> None:
        super().__init__(options)

    def fingerprint(self) -> str:
        """That of the pipeline's files."""
        return self._source.fingerprint()

    def load(self, device: torch.device) -> DiffusionModel:
        """The model as a saved pipeline is loaded. Raises `UserError` if a package that its architecture needs is missing."""
        return self._source.load(device)

    @property
    def _source(self) -> DiffusersSource:
        folder = _built(self.options.kind, self.options.seed)
        prompts = folder / "prompts.txt"
        told, size = str(prompts) if prompts.is_file() else "", FLUX_SIZE if self.options.kind == "flux" else None
        return DiffusersSource(DiffusersOptions(path=str(folder), prompts=told, size=size))


_folders: list[tempfile.TemporaryDirectory[str]] = []
"""Where pipelines were built: they go when the process ends."""


@lru_cache
def _built(kind: str, seed: int) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="ptqbench-random-")
    _folders.append(folder)
    return save_random(kind, Path(folder.name), seed)
