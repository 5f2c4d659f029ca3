"""Arguments and options that several commands share."""

from pathlib import Path

import click

from ptqbench.api.settings import default_cache

experiment_argument = click.argument("recipe", type=click.Path(path_type=Path))
profile_option = click.option(
    "--profile", default="", metavar="NAME", help='One of the recipe\'s profiles, for example "small" for a trial in minutes.'
)
override_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Change a value of the recipe; may be repeated."
)
cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=default_cache,
    help="Where finished stages are kept.  [default: $PTQBENCH_CACHE, or ptqbench in the user's cache folder]",
)
only_option = click.option(
    "--only", multiple=True, metavar="CELL", help='Only this cell, or "gacq/W4A8" for all its seeds; may be repeated.'
)
device_option = click.option("--device", default="auto", show_default=True, help='"cpu", "cuda", "mps" ..., or "auto".')
workers_option = click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes.  [default: one per core on a CPU, 8 at most; one on an accelerator]",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), help="Threads of each process.  [default: 1 on a CPU: numbers depend on it]"
)
