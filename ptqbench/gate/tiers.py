"""The three tiers: each compares one cell that both sides have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ptqbench.gate.difference import Difference, Side, judge, spread_unknown
from ptqbench.gate.snapshot import Entry, Measure, Snapshot
from ptqbench.gate.verdicts import Finding, Tier, Verdict
from ptqbench.results import formatting
from ptqbench.results.formatting import ranges
from ptqbench.results.protocols import mismatch

STATE = "codes and grids"
"""The subject of findings about what quantization made of the weights."""

SLOWER = 1.25
LARGER = 1.10
"""Factors of seconds and of memory that are worth a line."""


@dataclass(frozen=True)
class Pair:
    """A cell on both sides, and how many statistical comparisons the whole check makes."""

    id: str
    then: Entry
    now: Entry
    comparisons: int = 1


def exact(pair: Pair) -> Iterator[Finding]:
    """What must be equal to the last bit: bits, ledger, packed bytes. No measured number is among them."""
    for subject, then, now in (
        ("bits", pair.then.bits, pair.now.bits),
        ("bit ledger", pair.then.ledger, pair.now.ledger),
        ("packed bytes", pair.then.weight_bytes, pair.now.weight_bytes),
    ):
        if then == now:
            yield Finding(Verdict.SAME, Tier.EXACT, pair.id, subject)
        else:
            yield Finding(Verdict.CHANGED, Tier.EXACT, pair.id, subject, f"was {then or 'none'}, is {now or 'none'}")


def state(pair: Pair, strict: bool) -> Iterator[Finding]:
    """Quantized weights and grids, where machine and seeds are the baseline's, so that equal code gives equal bits.

    Another order of sums changes a few codes and no quality: the finding fails only when asked for (`strict`).
    """
    if not (pair.then.state and pair.now.state) or pair.then.seeds != pair.now.seeds:
        return
    if pair.then.state == pair.now.state:
        yield Finding(Verdict.SAME, Tier.EXACT, pair.id, STATE)
    else:
        text = "not the baseline's on an equal machine: the code computes something else; the metrics say what it is worth"
        yield Finding(Verdict.CHANGED, Tier.EXACT, pair.id, STATE, text, informational=not strict)


def evidence(pair: Pair, tier: Tier) -> Iterator[Finding]:
    """Less than the baseline rests on: seeds, images, a hash of codes and grids. What nobody looked at has not passed."""
    then, now = pair.then, pair.now
    if len(now.seeds) < len(then.seeds):
        text = f"the baseline has {len(then.seeds)} ({ranges(then.seeds)}), the run {len(now.seeds)} ({ranges(now.seeds)})"
        yield Finding(Verdict.CHANGED, tier, pair.id, "calibration seeds", text)
    if then.state and not now.state:
        yield Finding(Verdict.CHANGED, tier, pair.id, STATE, "the baseline has a hash of them, the run has none")
    for name in common(pair):
        if now.metrics[name].n < then.metrics[name].n:
            text = why_not_comparable(then.metrics[name], now.metrics[name])
            yield Finding(Verdict.CHANGED, tier, pair.id, name, text)


def metric_sets(pair: Pair, tier: Tier) -> Iterator[Finding]:
    """Metrics that only one side has."""
    for name in (name for name in pair.then.metrics if name not in pair.now.metrics):
        yield Finding(Verdict.MISSING, tier, pair.id, name, "the baseline has this metric, the run does not")
    for name in (name for name in pair.now.metrics if name not in pair.then.metrics):
        yield Finding(Verdict.NEW, tier, pair.id, name, "not in the baseline; --update adds it")


def why_not_comparable(then: Measure, now: Measure) -> str:
    """Why two numbers must not stand side by side, or "" if they may."""
    if then.n != now.n:
        return f"the baseline rests on {then.n} samples, the run on {now.n}"
    if then.better != now.better:
        return f"the better side was {then.better}, is {now.better}"
    # Also where neither names a protocol: equal counts do not say that both were measured alike. Costs never come here.
    return mismatch(now.protocol, then.protocol)


def common(pair: Pair) -> list[str]:
    """Metrics of both sides in the baseline's order."""
    return [name for name in pair.then.metrics if name in pair.now.metrics]


def protocols(pair: Pair, tier: Tier) -> Iterator[Finding]:
    """Metrics under another protocol, or on more images: named, but never with their numbers."""
    for name in common(pair):
        then, now = pair.then.metrics[name], pair.now.metrics[name]
        if now.n >= then.n and (why := why_not_comparable(then, now)):
            yield Finding(Verdict.INCOMPARABLE, tier, pair.id, name, why)


def quality(pair: Pair, then: Snapshot, now: Snapshot) -> Iterator[Finding]:
    """Metrics of the same protocol, two-sided: outside the band and significant, or else the same."""
    for name in common(pair):
        before, after = pair.then.metrics[name], pair.now.metrics[name]
        if why_not_comparable(before, after):
            continue
        sides = Side(before, pair.then.seeds, then.image_seed), Side(after, pair.now.seeds, now.image_seed)
        if spread_unknown(*sides):
            why = "other calibration seeds, and the baseline has one seed, which says nothing about their spread"
            yield Finding(Verdict.INCOMPARABLE, Tier.STAT, pair.id, name, why)
            continue
        yield _judged(pair.id, name, before, after, judge(*sides, pair.comparisons))


def _judged(cell: str, name: str, then: Measure, now: Measure, difference: Difference) -> Finding:
    verdict, text = _verdict(then, now, difference)
    return Finding(verdict, Tier.STAT, cell, name, text, then.better, then.value, now.value, difference, then.band)


def _verdict(then: Measure, now: Measure, difference: Difference) -> tuple[Verdict, str]:
    if not math.isfinite(now.value) or not math.isfinite(difference.low):
        return Verdict.WORSE, "not finite"
    if abs(difference.value) <= then.band or not difference.significant:
        equal = now.value == then.value
        return Verdict.SAME, "equal" if equal else "within the band" if abs(difference.value) <= then.band else "noise"
    if (difference.value < 0) == (then.better == "lower"):
        return Verdict.BETTER, "check the protocol: a sudden gain is more often a broken measurement"
    return Verdict.WORSE, f"outside the band and significant ({difference.how})"


def cost(pair: Pair, strict: bool, elsewhere: str) -> Iterator[Finding]:
    """Seconds and memory. They fail only when asked for (`strict`) and on the baseline's own environment.

    `elsewhere` says how the environment differs, "" if it does not.
    """
    for subject, then, now, factor in (
        ("seconds", pair.then.seconds, pair.now.seconds, SLOWER),
        ("memory (MiB)", pair.then.peak_mib, pair.now.peak_mib, LARGER),
    ):
        if then <= 0 or now <= 0:
            continue
        verdict = Verdict.WORSE if now > then * factor else Verdict.BETTER if now * factor < then else Verdict.SAME
        where = f"; {elsewhere}" if elsewhere else ""
        text = f"{formatting.seconds(now / then)} times the baseline's{where}"
        # A faster run is never a reason to fail, whatever else is strict.
        informational = not strict or bool(elsewhere) or verdict is Verdict.BETTER
        yield Finding(
            verdict,
            Tier.COST,
            pair.id,
            subject,
            text,
            "lower",
            then,
            now,
            band=then * (factor - 1),
            informational=informational,
        )
