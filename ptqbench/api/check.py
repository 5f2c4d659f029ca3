"""A run against the baseline that is kept for it."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ptqbench.api.result import Run
from ptqbench.gate import baseline_file
from ptqbench.gate.compare import ALL_TIERS, without_baseline
from ptqbench.gate.compare import compare as compare_snapshots
from ptqbench.gate.confirm import confirm as look_again
from ptqbench.gate.snapshot import snapshot
from ptqbench.gate.verdicts import Report, Tier
from ptqbench.results.headline import headline
from ptqbench.results.record import RunRecord


def check(
    run: Run | str | Path,
    baseline: str | Path | None = None,
    *,
    tiers: Collection[Tier | str] = ALL_TIERS,
    strict: bool = False,
    strict_cost: bool = False,
    strict_state: bool = False,
    confirm: int | None = None,
    cache: str | Path | None = None,
    progress: bool = False,
) -> Report:
    """What a run, or the folder of one, is worse, better and unlike in than its baseline: a file, baselines/<recipe>.toml if
    left out. `Report.exit_code` is 0 where nothing is worse.

    `tiers` names what to compare; `strict` fails on sudden gains and on what the baseline does not know, `strict_cost` on
    seconds and memory and `strict_state` on changed codes and grids where the environment is the baseline's. `confirm` runs
    what seems worse again with so many new calibration seeds. Without a baseline the report says how
    to make one.
    """
    chosen = run if isinstance(run, Run) else Run.load(run)
    path = baseline_path(chosen.record) if baseline is None else Path(baseline)
    now, opening = snapshot(chosen.record), tuple(headline(chosen.record))
    if not path.exists():
        return replace(without_baseline(now, str(path), how_to_begin(chosen, path)), headline=opening)
    then, wanted = baseline_file.load(path), frozenset(map(Tier, tiers))
    strictness = {"strict": strict, "strict_cost": strict_cost, "strict_state": strict_state}
    found = replace(compare_snapshots(now, then, wanted=wanted, where=str(path), **strictness), headline=opening)
    if confirm is None:
        return found
    # Only here: comparing alone needs nothing that runs.
    from ptqbench.api.rerun import rerun_of

    folder = None if cache is None else Path(cache)
    return look_again(found, now, then, confirm, rerun_of(chosen.record, folder, progress=progress))


def how_to_begin(run: Run, path: Path) -> str:
    """What makes a run the first baseline, in words."""
    words = ["ptqbench", "check", str(run.folder or "RUN"), "--baseline", str(path), "--update"]
    return f"make one from this run: {shlex.join(words)}"


def baseline_path(record: RunRecord) -> Path:
    """Where a run's baseline is kept if nothing else is said."""
    return Path("baselines") / f"{record.name}.toml"
