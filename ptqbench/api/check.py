"""A run against the baseline that is kept for it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ptqbench.api.result import Run
from ptqbench.gate import baseline_file
from ptqbench.gate.compare import ALL_TIERS, without_baseline
from ptqbench.gate.compare import compare as compare_snapshots
from ptqbench.gate.confirm import Rerun
from ptqbench.gate.confirm import confirm as look_again
from ptqbench.gate.snapshot import Snapshot, snapshot
from ptqbench.gate.verdicts import Report, Tier
from ptqbench.results.headline import headline
from ptqbench.results.record import RunRecord


def _rerun_of(record: RunRecord, cache: Path | None, progress: bool) -> Rerun:
    """A function that runs cells of a record again, on the kind of device that the record names."""
    # Only here: comparing alone needs nothing that runs.
    from ptqbench.api.recipe import recorded_recipe
    from ptqbench.api.run import run

    def rerun(cells: Sequence[str], seeds: Sequence[int]) -> Snapshot:
        experiment = recorded_recipe(record, f"sweep.seeds={list(seeds)}", f"sweep.only={json.dumps(list(cells))}")
        device, threads = str(record.environment.get("device", "auto")), record.environment.get("threads")
        found = run(experiment, cache=cache, device=device, workers=None, threads=threads, progress=progress)
        return snapshot(found.record)

    return rerun


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
    folder = None if cache is None else Path(cache)
    return look_again(found, now, then, confirm, _rerun_of(chosen.record, folder, progress))


def how_to_begin(run: Run, path: Path) -> str:
    """What makes a run the first baseline, in words."""
    words = ["ptqbench", "check", str(run.folder or "RUN"), "--baseline", str(path), "--update"]
    return f"make one from this run: {shlex.join(words)}"


def baseline_path(record: RunRecord) -> Path:
    """Where a run's baseline is kept if nothing else is said."""
    return Path("baselines") / f"{record.name}.toml"
