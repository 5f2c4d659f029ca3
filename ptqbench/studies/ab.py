"""A/B: copies of one method with more and more damage. What is the smallest that is seen, paired and unpaired?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ptqbench.evaluate.intervals import jackknife_variance
from ptqbench.evaluate.paired import (
    POWER,
    Arm,
    Difference,
    Part,
    Pool,
    calibration_part,
    judge,
    paired_difference,
    pool_arms,
)
from ptqbench.results.compare import SIGNIFICANT
from ptqbench.studies.setting import METRICS, Array, Setting, draw_method, draw_noise, features_of, measure, reference_set

EXCESS = (0.0, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Injected damage as a share of the baseline's; 0 shows the false alarms."""

TESTS = ("paired", "unpaired")


@dataclass(frozen=True)
class Sensitivity:
    """One metric at one number of images under one test.

    `effects` are the mean differences that the injected damage makes, `power` the shares of trials in which each has
    p < 5 %. `seen` is the effect at which the power reaches 80 %, by interpolation (None where it does not);
    `predicted` is the median over trials of what the comparison itself says it could have seen, at the effect nearest
    to `seen`.
    """

    metric: str
    images: int
    test: str
    effects: tuple[float, ...]
    power: tuple[float, ...]
    seen: float | None
    predicted: float


def study(
    setting: Setting, images: Sequence[int], trials: int, seed: int, tick: Callable[[], None] = lambda: None
) -> list[Sensitivity]:
    """The sensitivity of both tests at each number of images; `tick` is called after each trial."""
    reference = reference_set(np.random.default_rng([seed, 0]))
    found = []
    for count in images:
        sized = replace(setting, images=count)
        outcomes: dict[tuple[str, str], list[list[Difference]]] = {(m, t): [] for m in METRICS for t in TESTS}
        for trial in range(trials):
            for test in TESTS:
                rng = np.random.default_rng([seed, 1, count, trial])
                arms = _arms(sized, reference, rng, fresh=test == "unpaired")
                for name in METRICS:
                    outcomes[name, test].append(_differences(arms[name], test))
            tick()
        found += [_sensitivity(name, count, test, rows) for (name, test), rows in outcomes.items()]
    return found


def unpaired_difference(ours: Arm, theirs: Arm, pool: Pool | None) -> Difference:
    """The difference of two arms that were measured on noise of their own: their image variances add up."""
    value = float(np.mean(list(ours.values.values())) - np.mean(list(theirs.values.values())))
    parts = [
        Part(jackknife_variance(np.mean(list(arm.replicates.values()), axis=0)), len(next(iter(arm.replicates.values()))) - 1)
        for arm in (ours, theirs)
    ]
    calibration = calibration_part(ours, theirs, pool)
    return judge(value, [*parts, calibration] if calibration else parts, len(ours.values), only=calibration is None)


def _arms(setting: Setting, reference: Array, rng: np.random.Generator, *, fresh: bool) -> dict[str, list[Arm]]:
    """By metric, the baseline's arm and one for each injected damage; with `fresh`, each on noise of its own."""
    noise = draw_noise(setting, rng)
    found: dict[str, list[Arm]] = {name: [] for name in METRICS}
    for excess in (0.0, *EXCESS):
        noise = draw_noise(setting, rng) if fresh else noise
        method = draw_method(setting, rng)
        cells = [measure(features_of(setting, noise, method, s, excess), noise, reference) for s in range(setting.seeds)]
        for name in METRICS:
            values = {s: cell[name].value for s, cell in enumerate(cells)}
            found[name].append(Arm(values, {s: np.asarray(cell[name].replicates) for s, cell in enumerate(cells)}))
    return found


def _differences(arms: Sequence[Arm], test: str) -> list[Difference]:
    pool = pool_arms(arms)
    compare = paired_difference if test == "paired" else unpaired_difference
    return [compare(arm, arms[0], pool) for arm in arms[1:]]


def _sensitivity(metric: str, images: int, test: str, rows: Sequence[Sequence[Difference]]) -> Sensitivity:
    effects = tuple(float(x) for x in np.mean([[d.value for d in row] for row in rows], axis=0))
    power = tuple(float(x) for x in np.mean([[d.p < SIGNIFICANT for d in row] for row in rows], axis=0))
    seen = _crossing(effects, power)
    nearest = int(np.argmin([abs(x - (effects[-1] if seen is None else seen)) for x in effects]))
    predicted = float(np.median([row[nearest].detectable for row in rows]))
    return Sensitivity(metric, images, test, effects, power, seen, predicted)


def _crossing(effects: Sequence[float], power: Sequence[float]) -> float | None:
    """Where the power first reaches 80 %, on straight lines between the effects."""
    for i in range(1, len(power)):
        if power[i] >= POWER:
            share = (POWER - power[i - 1]) / (power[i] - power[i - 1]) if power[i] > power[i - 1] else 1.0
            return effects[i - 1] + share * (effects[i] - effects[i - 1])
    return None
