"""Runs with replicates, drawn from a known model: image noise that methods share in part, and calibration noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from comparison_samples import run

from ptqbench.evaluate.paired import Arm
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.record import CellRecord, Number, RunRecord

BLOCKS = 20

LEFT_OUT = [3.2 + 0.02 * (block % 2) for block in range(BLOCKS)]
"""Replicates of a full-precision row: 19/20 * 20 * 0.01^2 is their jackknife variance, and 0.0616 their noise floor."""


def replicates(blocks: np.ndarray) -> np.ndarray:
    """Means with one block left out, of block means (..., BLOCKS)."""
    return (blocks.sum(axis=-1, keepdims=True) - blocks) / (blocks.shape[-1] - 1)


def arms(rng: np.random.Generator, levels: list[float], seeds: int, calibration: float, shared: float = 2.0) -> list[Arm]:
    """Arms with true means `levels`: image noise of size 1 each and `shared` in common, calibration noise by seed."""
    common = rng.normal(size=BLOCKS) * np.sqrt(BLOCKS) * shared
    found = []
    for level in levels:
        own = rng.normal(size=BLOCKS) * np.sqrt(BLOCKS)
        shifts = rng.normal(size=seeds) * calibration
        blocks = [level + common + own + shift for shift in shifts]
        found.append(Arm({s: float(b.mean()) for s, b in enumerate(blocks)}, {s: replicates(b) for s, b in enumerate(blocks)}))
    return found


def number(value: float, left_out: np.ndarray, better: str, protocol: str) -> Number:
    error = float(np.sqrt((len(left_out) - 1) / len(left_out) * np.square(left_out - left_out.mean()).sum()))
    return Number(
        value, value - 2 * error, value + 2 * error, 512, better, protocol=protocol, replicates=[float(x) for x in left_out]
    )


def sampled_run(
    levels: dict[str, float], *, bits: tuple[str, ...] = ("W4A8",), seeds: int = 2, calibration: float = 0.05, seed: int = 0
) -> RunRecord:
    """A run of these methods; the first is the baseline. The metrics are a distance and its negative, in dB."""
    rng = np.random.default_rng(seed)
    cells = []
    for setting in bits:
        for method, arm in zip(levels, arms(rng, [0.0] * len(levels), seeds, calibration), strict=True):
            for s in range(seeds):
                rest, value = levels[method] + arm.replicates[s] * 0.02, levels[method] + arm.values[s] * 0.02
                metrics = {
                    "fd-digits@data": number(value, rest, "lower", "aaaa1111"),
                    "psnr@fp": number(30 - value, 30 - rest, "higher", "bbbb2222"),
                }
                cells.append(
                    CellRecord(f"{method}/{setting}/seed{s}", method, setting, "", s, "ok", metrics=metrics,
                               bits_summary={"average weight bits": 4.1, "average activation bits": 8.0})
                )  # fmt: skip
    return replace(run(*cells, published=False), baseline=next(iter(levels)), title="A sampled comparison")


def compared() -> RunRecord:
    """A run with every verdict, a noise floor, and one number that must not stand beside the others."""
    methods = {"qdiffusion": 5.0, "gacq": 4.7, "ptq4dm": 5.01, "minmax": 8.0}
    record = sampled_run(methods, bits=("W4A32", "W4A8"))
    record.cells[0].metrics["fd-digits@data"].protocol = "aaaa1111"
    own = record.cells[0].metrics["fd-digits@data"]
    record.cells[0].metrics["fd-digits@data"] = replace(own, replicates=LEFT_OUT)
    for cell in record.cells[-2:]:
        cell.metrics["psnr@fp"].protocol = "cccc3333"
    return attach_comparisons(record)
