"""The oracle of sample weightings: the best fixed weight for each group of sampling steps, by direct search on an error.

A weighting that learns can gain more only within a group, during a fit, or where the search missed it. What it finds on the
seeds it searched on is partly luck of those fits, so what counts is the error of the same weights on seeds and probes that it
never saw.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ptqbench.evaluate.intervals import mean_interval
from ptqbench.results.formatting import significant
from ptqbench.results.tables import Cell, Column, Table

Weights = tuple[float, ...]

FIRST_RATIO = 4.0
"""What a weight is multiplied or divided by at first; where nothing is gained any more, its root comes next."""


@dataclass(frozen=True)
class Trial:
    """Weights by group of sampling steps, noisiest first, and the error under them."""

    weights: Weights
    error: float


def search(error: Callable[[Weights], float], groups: int, fits: int, ratio: float = FIRST_RATIO) -> list[Trial]:
    """Compass search from equal weights: all trials in their order, at most `fits` of them, no weights twice.

    Each weight in turn is multiplied and divided by `ratio`; what lowers the error stays. After a round without any gain the
    ratio is replaced by its root. Deterministic, so that an interrupted search finds its fits in the cache.
    """
    trials = [Trial((1.0,) * groups, error((1.0,) * groups))]
    best, known = trials[0], {trials[0].weights}
    while len(trials) < fits and ratio > 1.01:
        start = best
        for group in range(groups):
            for factor in (ratio, 1 / ratio):
                tried = _normalised([w * factor if g == group else w for g, w in enumerate(best.weights)])
                if tried in known or len(trials) >= fits:
                    continue
                trials.append(Trial(tried, error(tried)))
                known.add(tried)
                if trials[-1].error < best.error:
                    best = trials[-1]
                    break
        if best is start:
            ratio = math.sqrt(ratio)
    return trials


def _normalised(weights: Sequence[float]) -> Weights:
    """With geometric mean 1, since a common factor means nothing, and in few digits, so that equal weights look equal."""
    level = math.exp(statistics.fmean(map(math.log, weights)))
    return tuple(float(f"{w / level:.6g}") for w in weights)


@dataclass(frozen=True)
class Verdict:
    """Every trial, and the errors of equal and of the best weights on held-out calibration seeds and probes, by seed."""

    method: str
    bits: str
    metric: str
    trials: list[Trial]
    equal: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)

    @property
    def best(self) -> Trial:
        return min(self.trials, key=lambda trial: trial.error)

    @property
    def gain(self) -> float:
        """How much lower the held-out error is under the best weights, as a share of that under equal ones."""
        return 1 - statistics.fmean(self.found) / statistics.fmean(self.equal)

    @property
    def visible(self) -> float | None:
        """Half of the 95 % interval (Student) of `gain` over the held-out seeds, paired; None for one seed."""
        if len(self.equal) < 2:
            return None
        differences = [e - f for e, f in zip(self.equal, self.found, strict=True)]
        found = mean_interval(differences)
        return (found.high - found.value) / statistics.fmean(self.equal)

    @property
    def sentence(self) -> str:
        """What it comes to."""
        if self.best.weights == self.trials[0].weights:
            return "No weights that were tried beat equal ones on the tuning seeds."
        told = f"Held out, the best fixed weights found change {self.metric} by {-100 * self.gain:+.1f} %"
        if self.visible is None:
            return f"{told}; one seed cannot say what of it is chance."
        seen = abs(self.gain) > self.visible
        rest = "more than" if seen else "within"
        bound = "" if seen and self.gain > 0 else ": none of the weightings that were tried shows a gain here"
        return f"{told}, {rest} its \N{PLUS-MINUS SIGN} {100 * self.visible:.1f} %{bound}."


def oracle_tables(found: Verdict) -> list[Table]:
    """Equal and best weights on the seeds of the search and on those held out; and every trial."""
    groups = len(found.best.weights)
    columns = [Column("weights", "weights", text=True)]
    columns += [Column("tuning", f"{found.metric}, tuning seeds", better="lower")]
    columns += [Column("held", f"{found.metric}, held out", better="lower")]
    rows = []
    for name, tuned, errors in (
        ("equal", found.trials[0].error, found.equal),
        (_words(found.best.weights), found.best.error, found.found),
    ):
        held = statistics.fmean(errors)
        rows.append([Cell(name), Cell(significant(tuned, 3), value=tuned), Cell(significant(held, 3), value=held)])
    notes = [found.sentence, f"{groups} groups of sampling steps, noisiest first; {len(found.trials)} weightings were tried."]
    title = f"Oracle of fixed weights for {found.method} {found.bits}"
    tried = [
        [Cell(_words(trial.weights)), Cell(significant(trial.error, 3), value=trial.error)]
        for trial in sorted(found.trials, key=lambda trial: trial.error)
    ]
    return [Table(title, columns, rows, notes), Table("Every trial, best first", columns[:2], tried)]


def _words(weights: Weights) -> str:
    return " ".join(f"{w:.3g}" for w in weights)
