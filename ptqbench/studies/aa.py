"""A/A: identical methods under other noise and other calibrations. How often are they called different?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from ptqbench.results.compare import SIGNIFICANT, UNSEEN, comparisons
from ptqbench.results.record import CellRecord, Comparison, RunRecord
from ptqbench.studies.setting import METRICS, Setting, draw_method, draw_noise, features_of, measure, reference_set

BASELINE = "a0"


@dataclass(frozen=True)
class FalseAlarms:
    """What became of one metric. `declared` is the share of trials in which any method was called better or worse, with
    its 95 % interval; `single` the share of single comparisons with p < 5 % before correction; `covered` the share whose
    interval holds the truth, which is zero."""

    metric: str
    trials: int
    comparisons: int
    declared: float
    declared_low: float
    declared_high: float
    single: float
    covered: float


def study(setting: Setting, methods: int, trials: int, seed: int, tick: Callable[[], None] = lambda: None) -> list[FalseAlarms]:
    """Compare `methods` copies of one method with another copy in so many trials; `tick` is called after each."""
    reference = reference_set(np.random.default_rng([seed, 0]))
    found: dict[str, list[list[Comparison]]] = {name: [] for name in METRICS}
    for trial in range(trials):
        compared = comparisons(_run(setting, methods, reference, np.random.default_rng([seed, 1, trial])))
        for name in METRICS:
            found[name].append([c for c in compared if c.metric == name])
        tick()
    return [_summary(name, tables) for name, tables in found.items()]


def _run(setting: Setting, methods: int, reference: np.ndarray, rng: np.random.Generator) -> RunRecord:
    """One comparison with all methods the same but for their luck."""
    noise = draw_noise(setting, rng)
    cells = []
    for index in range(methods + 1):
        method = draw_method(setting, rng)
        for s in range(setting.seeds):
            metrics = measure(features_of(setting, noise, method, s), noise, reference)
            cells.append(CellRecord(f"a{index}/seed{s}", f"a{index}", "W4A8", "", s, "ok", metrics=metrics))
    return RunRecord("study", "", "", BASELINE, "", "", {}, {}, cells)


def _summary(metric: str, tables: list[list[Comparison]]) -> FalseAlarms:
    alarms = sum(any(c.verdict != UNSEEN for c in table) for table in tables)
    every = [c for table in tables for c in table]
    interval = binomtest(alarms, len(tables)).proportion_ci()
    return FalseAlarms(
        metric,
        len(tables),
        len(tables[0]),
        alarms / len(tables),
        float(interval.low),
        float(interval.high),
        float(np.mean([c.p is not None and c.p < SIGNIFICANT for c in every])),
        float(np.mean([c.low is not None and c.high is not None and c.low <= 0 <= c.high for c in every])),
    )
