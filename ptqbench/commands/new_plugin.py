"""`ptqbench new-plugin NAME --role ROLE`: a plugin that installs, passes its own tests, and is yours to change."""

from __future__ import annotations

from pathlib import Path

import click

from ptqbench.kit.scaffold import plugin_files, use_of, write
from ptqbench.plugin.hookspecs import ROLES


@click.command("new-plugin", short_help="Write a plugin to start from.")
@click.argument("name")
@click.option("--role", type=click.Choice([role.name for role in ROLES]), required=True, help="What it is to be.")
@click.option("--single-file", "single", is_flag=True, help="One file, and its test beside it, instead of a distribution.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write to.  [default: ./NAME, or . for one file]")
def command(name: str, role: str, single: bool, out: Path | None) -> None:
    """Write the plugin NAME with a component of one role that works, with options, documentation and tests."""
    files = plugin_files(name, role, single=single)
    folder = out or Path("." if single else name)
    for path in write(folder, files):
        click.echo(f"written: {path}", err=True)
    click.echo("\n".join(_next(name, role, folder, single)))


def _next(name: str, role: str, folder: Path, single: bool) -> list[str]:
    """What to do with it, as lines to copy."""
    use = use_of(role).replace("example", name)
    if single:
        file = folder / f"{name.replace('-', '_')}.py"
        steps = [f"ptqbench plugin check {file}", f"ptqbench list --plugin {file}"]
        use = f'[recipe]\nplugins = ["{file.name}"]\n\n{use}'
    else:
        steps = [f"pip install -e '{folder}[dev]'", f"pytest {folder}", f"ptqbench plugin check {name}", "ptqbench list"]
    return [*steps, "", "# in a recipe", use]
