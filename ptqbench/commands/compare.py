"""`ptqbench compare RUN_A RUN_B`: two runs side by side, where that is allowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ptqbench.commands.output import json_option, print_json, print_tables
from ptqbench.errors import EXIT_NOT_COMPARABLE, EXIT_OK
from ptqbench.results.record import RunRecord


@click.command("compare", short_help="Put two runs side by side.")
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@json_option
def command(run_a: Path, run_b: Path, as_json: bool) -> int:
    """Print the cells that RUN_A and RUN_B have in common, with paired differences (B minus A).

    Numbers are paired only when both runs share model, sampler and noise, and each number its protocol id. What does not
    is refused with the reason, and the exit code is 4.
    """
    from ptqbench.results.compare import REFUSED
    from ptqbench.results.compare_runs import compare_runs, runs_table

    found = compare_runs(RunRecord.load(run_a), RunRecord.load(run_b))
    if as_json:
        entries = [dataclasses.asdict(c) for c in found]
        print_json({"a": str(run_a), "b": str(run_b), "comparisons": entries})
    else:
        print_tables([runs_table(found, str(run_a), str(run_b))])
    return EXIT_NOT_COMPARABLE if any(c.verdict == REFUSED for c in found) else EXIT_OK
