"""Hand-made runs for the gate: replicates, several calibration seeds, and a known truth."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from ptqbench.results.record import CellRecord, Number, RunRecord, StageCost

BLOCKS = 20
QUANTILE = float(stdtrit(BLOCKS - 1, 0.975))
CPU = {"python": "3.11", "device": "cpu", "threads": 1, "cpu": "some processor", "ptqbench": "1"}


def numbers(values: np.ndarray, noise: np.ndarray, **more: object) -> list[Number]:
    """Numbers whose standard errors over images are those of block effects, a row for each: replicate j lacks block j."""
    replicates = values[:, None] - (noise - noise.mean(1, keepdims=True)) / (BLOCKS - 1)
    half = QUANTILE * (noise.std(1, ddof=1) / np.sqrt(BLOCKS))
    rows = zip(values.tolist(), half.tolist(), replicates.tolist(), strict=True)
    return [Number(x, x - d, x + d, **{"n": 512, "protocol": "p1", "replicates": lacking} | more) for x, d, lacking in rows]


def number(value: float, noise: np.ndarray, **more: object) -> Number:
    """One of them."""
    return numbers(np.array([value]), noise[None], **more)[0]


def cell(method: str, seed: int, metrics: Mapping[str, Number], seconds: float = 10.0, **more: object) -> CellRecord:
    """A cell that succeeded at W4A8."""
    hashes = {"ledger_hash": f"ledger-{method}", "state_hash": f"state-{method}-{seed}"}
    fields = {"weight_bytes": 1000, "status": "ok", **hashes} | more
    cost = {"images": StageCost(seconds, 800.0)}
    name = f"{method}/W4A8/seed{seed}"
    return CellRecord(name, method, "W4A8", "", seed, metrics=dict(metrics), cost=cost, **fields)


def run(cells: Sequence[CellRecord], image_seed: int = 1234, **more: object) -> RunRecord:
    """A run of these cells."""
    fields = {"environment": dict(CPU), "digest": "d" * 8, "created": "2026-11-22T12:00:00+00:00"} | more
    protocol = {"image seed": image_seed}
    invocation = ["recipes/sample.toml"]
    return RunRecord("sample", "", "", "plain", protocol=protocol, cells=list(cells), invocation=invocation, **fields)


def scaled(record: RunRecord, method: str, metric: str, factor: float) -> RunRecord:
    """A copy in which one method's metric is `factor` times what it was, for all seeds and blocks."""
    changed = copy.deepcopy(record)
    for found in changed.cells:
        if found.method == method:
            x = found.metrics[metric]
            x.value, x.low, x.high = x.value * factor, x.low * factor, x.high * factor
            x.replicates = [r * factor for r in x.replicates]
    return changed


@dataclass
class World:
    """True values of methods and metrics; draws runs of them under any calibration seeds and images.

    `spread` is the standard deviation over calibration seeds, `noise` of one block of images; `common` is the part of the
    image noise that all methods and calibrations share. All are parts of the true value.
    """

    methods: tuple[str, ...] = ("plain", "fitted", "learned")
    metrics: tuple[str, ...] = ("eps-error", "fd@data", "fd@fp")
    spread: float = 0.05
    noise: float = 0.3
    common: float = 0.9
    spreads: Mapping[str, float] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator, seeds: Sequence[int], image_seed: int = 1234) -> RunRecord:
        """A run: noise of images is a function of `image_seed`, everything else comes from `rng`."""
        images = np.random.default_rng(image_seed)
        shared = images.standard_normal((len(self.metrics), BLOCKS))
        own = rng.standard_normal((len(self.methods), len(seeds), len(self.metrics), BLOCKS + 1))
        noise = self.noise * (self.common * shared + np.sqrt(1 - self.common**2) * own[..., :-1])
        spreads = np.array([self.spreads.get(method, self.spread) for method in self.methods])
        values = 1.0 + spreads[:, None, None] * own[..., -1] + noise.mean(-1)
        drawn = iter(numbers(values.ravel(), noise.reshape(-1, BLOCKS)))
        cells = [
            cell(method, seed, {metric: next(drawn) for metric in self.metrics}) for method in self.methods for seed in seeds
        ]
        return run(cells, image_seed)


def steady(image_seed: int = 1234) -> RunRecord:
    """Two methods, two metrics, three seeds with a small spread: the run that most tests change something in."""
    world = World(("plain", "fitted"), ("eps-error", "fd@data"), spread=0.005, noise=0.05)
    return world.draw(np.random.default_rng(0), (0, 1, 2), image_seed)
