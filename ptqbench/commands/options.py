"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path

import click


def default_cache() -> Path:
    """PTQBENCH_CACHE, or the user's cache folder."""
    if named := os.environ.get("PTQBENCH_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ptqbench"


experiment_argument = click.argument("recipe", type=click.Path(path_type=Path))
override_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Change a value of the recipe; may be repeated."
)
cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=default_cache,
    help="Where finished stages are kept.  [default: $PTQBENCH_CACHE, or ptqbench in the user's cache folder]",
)
