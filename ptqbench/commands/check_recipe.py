"""`ptqbench check-recipe`: everything that `run` does up to the first tensor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from ptqbench.api.recipe import load_recipe
from ptqbench.commands.method_words import HEADINGS, method_words
from ptqbench.commands.options import experiment_argument, override_option, profile_option
from ptqbench.commands.output import json_option, print_json, print_table
from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Experiment


@click.command("check-recipe")
@experiment_argument
@profile_option
@override_option
@json_option
def command(recipe: Path, profile: str, overrides: tuple[str, ...], as_json: bool) -> int:
    """Check RECIPE and say what it would run, or all that is wrong with it."""
    try:
        experiment = load_recipe(recipe, profile=profile, set=overrides)
    except UserError as error:
        if not as_json:
            raise
        print_json({"ok": False, "exit_code": error.exit_code, "message": error.message, "problems": _problems(error)})
        return error.exit_code
    if as_json:
        print_json(_summary(experiment))
        return 0
    rows = _rows(experiment)
    click.echo(f"{recipe}: ok, {len(experiment.cells)} cells ({len(rows)} methods and full precision)")
    click.echo("")
    print_table(_HEADINGS, rows)
    return 0


_HEADINGS = ("method", "bits", *HEADINGS)


def _rows(experiment: Experiment) -> list[tuple[str, ...]]:
    """A row for each method; where its variants differ, all that they have."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for cell in experiment.cells:
        if cell.method is not None:
            found.setdefault(cell.name, []).append((cell.bits, *method_words(cell.method)))
    return [(name, *(_each(values) for values in zip(*variants, strict=True))) for name, variants in found.items()]


def _each(values: Iterable[str]) -> str:
    return " | ".join(value for value in dict.fromkeys(values) if value)


def _summary(experiment: Experiment) -> dict[str, object]:
    return {
        "ok": True,
        "name": experiment.name,
        "digest": experiment.digest,
        "baseline": experiment.baseline,
        "methods": [dict(zip(_HEADINGS, row, strict=True)) for row in _rows(experiment)],
        "cells": [
            {"id": c.id, "method": c.name, "bits": c.bits, "variant": c.variant, "seed": c.seed} for c in experiment.cells
        ],
    }


def _problems(error: UserError) -> list[dict[str, str]]:
    found = getattr(error, "problems", ())
    return [{"place": p.place, "message": p.message, "hint": p.hint} for p in found]
