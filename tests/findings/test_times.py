"""Fitting times of kept records."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ptqbench.errors import UserError
from ptqbench.findings.document import TimeRatio
from ptqbench.findings.judge import time_ratio
from ptqbench.results.record import CellRecord, RunRecord, StageCost


def cell(method: str, seed: int, *fits: float) -> CellRecord:
    cost = {"images": StageCost(99.0, 1.0)} | {f"reconstruct-{i}": StageCost(s, 1.0) for i, s in enumerate(fits)}
    return CellRecord(f"{method}/W4A8/seed{seed}", method, "W4A8", "", seed, "ok", cost=cost)


def run(*cells: CellRecord) -> dict[str, RunRecord]:
    return {"r": RunRecord("r", "R", "", "base", "0", "2026", {}, {}, list(cells))}


ASKED = TimeRatio(run="r", ours="own/W4A8", theirs="base/W4A8")


def test_the_ratio_is_paired_by_seed_and_counts_fits_alone():
    pairs = {0: (3.0, 2.0), 1: (9.0, 5.0), 2: (6.0, 4.0)}
    cells = [c for seed, (a, b) in pairs.items() for c in (cell("own", seed, a - 1, 1.0), cell("base", seed, b))]
    found = time_ratio(ASKED, run(*cells, cell("own", 7, 100.0)))
    ratios = [a / b for a, b in pairs.values()]
    half = stats.t.ppf(0.975, 2) * np.std(ratios, ddof=1) / np.sqrt(3)
    assert (found.ratio.value, found.ratio.high) == pytest.approx((np.mean(ratios), np.mean(ratios) + half))
    assert (found.seconds, found.base_seconds, found.seeds) == (pytest.approx(6.0), pytest.approx(11 / 3), 3)


def test_one_common_seed_or_no_fit_is_no_ratio():
    with pytest.raises(UserError, match="on 1 common seeds"):
        time_ratio(ASKED, run(cell("own", 0, 2.0), cell("own", 1, 2.0), cell("base", 1, 1.0)))
    with pytest.raises(UserError, match="on 0 common seeds"):
        time_ratio(ASKED, run(cell("own", 0, 2.0), cell("base", 0)))
    with pytest.raises(UserError, match="no finished row 'base/W4A8'"):
        time_ratio(ASKED, run(cell("own", 0, 2.0)))
