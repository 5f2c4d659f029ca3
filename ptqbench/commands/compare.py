"""`ptqbench compare RUN_A RUN_B`: two runs side by side, where that is allowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ptqbench.api.compare import compare
from ptqbench.commands.output import json_option, print_json, print_tables
from ptqbench.errors import EXIT_NOT_COMPARABLE, EXIT_OK


@click.command("compare", short_help="Put two runs side by side.")
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@json_option
def command(run_a: Path, run_b: Path, as_json: bool) -> int:
    """Print the cells that RUN_A and RUN_B have in common, with paired differences (B minus A).

    Numbers are paired only when both runs share model, sampler and noise, and each number its protocol id. What does not
    is refused with the reason, and the exit code is 4.
    """
    found = compare(run_a, run_b)
    if as_json:
        entries = [dataclasses.asdict(c) for c in found.comparisons]
        print_json({"a": str(run_a), "b": str(run_b), "comparisons": entries})
    else:
        print_tables([found.table()])
    return EXIT_NOT_COMPARABLE if found.refused else EXIT_OK
