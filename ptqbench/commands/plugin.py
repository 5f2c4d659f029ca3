"""`ptqbench plugin check`: hold a plugin to its contract."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from ptqbench.errors import UserError
from ptqbench.plugin.names import role_words

if TYPE_CHECKING:
    from ptqbench.testing import Trial


@click.group("plugin", short_help="Check a plugin against its contract.")
def command() -> None:
    """For those who write plugins."""


@command.command("check", short_help="Hold its components to their contract.")
@click.argument("source", metavar="FILE|NAME")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME.KEY=VALUE", help="An option of a component, as TOML; may be repeated."
)
def check(source: str, settings: tuple[str, ...]) -> None:
    """Try every component of a plugin: of a .py file, or of an installed one by its name.

    What each returns is looked at as in a run, and asked for twice; gradients are compared with finite differences, grids with
    their bits, and what is stored with what comes back; methods quantize a tiny model. No call may move what all share. The
    same checks are functions for pytest in ptqbench.testing.
    """
    from ptqbench.testing import components

    failed = [error for trial in components(source, _options(settings)) if (error := _tried(trial)) is not None]
    if failed:
        sys.exit(max(error.exit_code for error in failed))


def _tried(trial: Trial) -> UserError | None:
    """Run the checks of a component, a line each, and return the first error, after which the others say little."""
    from ptqbench.testing.conformance import checks, run

    click.echo(f'{role_words(trial.bound.role)} "{trial.bound.name}"')
    for one in checks(trial.bound.role):
        promise = (one.__doc__ or one.__name__).splitlines()[0]
        try:
            run(one, trial)
        except UserError as error:
            click.echo(f"  FAILED  {promise}")
            click.echo("\n".join(f"          {line}" for line in str(error).splitlines()))
            return error
        click.echo(f"  ok      {promise}")
    return None


def _options(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Options by component. Raises `UserError` for a word that is no NAME.KEY=VALUE."""
    found: dict[str, dict[str, Any]] = {}
    for word in settings:
        place, equals, text = word.partition("=")
        name, dot, key = place.rpartition(".")
        if not (equals and dot and name and key):
            raise UserError(f"--set {word} is no NAME.KEY=VALUE", 'for example --set diffusers.path="models/mine"')
        found.setdefault(name, {})[key] = _value(text)
    return found


def _value(text: str) -> Any:
    """TOML, or the words themselves where they are none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
