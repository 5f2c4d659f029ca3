"""`ptqbench check-recipe`: everything that `run` does up to the first tensor."""

from __future__ import annotations

from pathlib import Path

import click

from ptqbench.commands.options import experiment_argument, override_option
from ptqbench.commands.output import json_option, print_json, print_table
from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Experiment, Method


@click.command("check-recipe")
@experiment_argument
@override_option
@json_option
def command(recipe: Path, overrides: tuple[str, ...], as_json: bool) -> int:
    """Check RECIPE and say what it would run, or all that is wrong with it."""
    from ptqbench.recipe.load import load_experiment

    try:
        experiment = load_experiment(recipe, overrides=overrides)
    except UserError as error:
        if not as_json:
            raise
        print_json({"ok": False, "exit_code": error.exit_code, "message": error.message, "problems": _problems(error)})
        return error.exit_code
    if as_json:
        print_json(_summary(experiment))
        return 0
    methods = _methods(experiment)
    cells = len(experiment.cells)
    click.echo(f"{recipe}: ok, {cells} cells ({len(methods)} methods and full precision)")
    click.echo("")
    print_table(("method", "bits", *_ROLES), [_row(name, found) for name, found in methods.items()])
    return 0


_ROLES = ("sampler", "weighter", "reconstruction", "weights", "activations", "passes")


def _methods(experiment: Experiment) -> dict[str, list[Method]]:
    found: dict[str, list[Method]] = {}
    for cell in experiment.cells:
        if cell.method is not None and cell.method not in found.setdefault(cell.name, []):
            found[cell.name].append(cell.method)
    return found


def _row(name: str, methods: list[Method]) -> tuple[str, ...]:
    bits = dict.fromkeys(f"W{m.weights.bits}A{m.activations.bits}" for m in methods)

    def every(values: list[str]) -> str:
        return " | ".join(dict.fromkeys(values))

    return (
        name,
        ", ".join(bits),
        every([m.sampler.name for m in methods]),
        every([m.weighter.name for m in methods]),
        every([m.reconstruction.name for m in methods]),
        every([f"{m.weights.quantizer.name}/{m.weights.range.name}" for m in methods]),
        every([f"{m.activations.quantizer.name}/{m.activations.range.name}" for m in methods]),
        every([", ".join(p.name for p in m.passes) for m in methods]),
    )


def _summary(experiment: Experiment) -> dict[str, object]:
    return {
        "ok": True,
        "name": experiment.name,
        "digest": experiment.digest,
        "baseline": experiment.baseline,
        "cells": [
            {"id": c.id, "method": c.name, "bits": c.bits, "variant": c.variant, "seed": c.seed} for c in experiment.cells
        ],
    }


def _problems(error: UserError) -> list[dict[str, str]]:
    found = getattr(error, "problems", ())
    return [{"place": p.place, "message": p.message, "hint": p.hint} for p in found]
