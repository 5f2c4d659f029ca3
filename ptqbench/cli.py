"""The command line. Each command's module is imported when it is invoked, so that light commands never import torch."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ptqbench.boundary.call import Call, Owner, calling
from ptqbench.errors import EXIT_INTERRUPTED, EXIT_OK, UserError, file_error
from ptqbench.failures import TRACEBACK, told
from ptqbench.plugin.names import nearest
from ptqbench.plugin.sources import PluginInfo
from ptqbench.streams import prepare
from ptqbench.version import __version__

EXIT_BUG = 70
"""An unexpected exception. Not 1, which means a regression, so that a crash never reads as a result."""

COMMANDS = {
    "run": ("ptqbench.commands.run", "Run a recipe and print its tables."),
    "check-recipe": ("ptqbench.commands.check_recipe", "Check a recipe without running it."),
    "plan": ("ptqbench.commands.plan", "Show cells, layers with their bits, and a forecast."),
    "export": ("ptqbench.commands.export", "Write a cell's quantized denoiser to a folder."),
    "time": ("ptqbench.commands.time", "Execute a cell in an engine, and time it."),
    "sensitivity": ("ptqbench.commands.sensitivity", "Say which layers cost a cell most."),
    "show": ("ptqbench.commands.show", "Print the tables of a run again."),
    "report": ("ptqbench.commands.report", "Write a run as one HTML page, or its figures."),
    "runs": ("ptqbench.commands.runs", "List runs, and how each came out."),
    "cache": ("ptqbench.commands.cache", "Say what the cache holds, and make room in it."),
    "compare": ("ptqbench.commands.compare", "Put two runs side by side."),
    "check": ("ptqbench.commands.check", "Check a run against its baseline."),
    "findings": ("ptqbench.commands.findings", "Say which claims kept results bear out."),
    "diagnose": ("ptqbench.commands.diagnose", "Look into the fits of a recipe's cells."),
    "study": ("ptqbench.commands.study", "Show what the statistics can and cannot see."),
    "bench": ("ptqbench.commands.bench", "Measure what features and fits cost."),
    "list": ("ptqbench.commands.list_", "List components and the plugins that they come from."),
    "describe": ("ptqbench.commands.describe", "Show a component's options, paper and deviations."),
    "new-plugin": ("ptqbench.commands.new_plugin", "Write a plugin to start from."),
    "plugin": ("ptqbench.commands.plugin", "Check a plugin against its contract."),
    "doctor": ("ptqbench.commands.doctor", "Check the installation."),
}
"""Built-in commands: the module whose `command` it is, and the line that `--help` prints without importing it."""


class LazyGroup(click.Group):
    """A group of built-in commands, imported on demand, and of commands that plugins bring."""

    _from_plugins: dict[str, click.Command] | None = None
    tracebacks = False
    """Whether errors that are reported in one message show their tracebacks as well."""

    def _plugin_commands(self) -> dict[str, click.Command]:
        from ptqbench.plugin.manager import PluginManager

        if self._from_plugins is None:
            found = PluginManager().commands()
            self._from_plugins = {name: _guarded(*item) for name, item in found.items() if name not in COMMANDS}
        return self._from_plugins

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands: built-in ones in the order of use, then those of plugins."""
        return [*COMMANDS, *sorted(self._plugin_commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; plugins are asked only for names that are not built in."""
        if cmd_name in COMMANDS:
            command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
            return command
        return self._plugin_commands().get(cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for one that does not exist."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            close = nearest(name, self.list_commands(ctx))
            ctx.fail(f"no such command: {name}." + (f' Did you mean "{close}"?' if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in `--help`, from the table above, so that no command module is imported for it."""
        rows = [(name, short) for name, (_, short) in COMMANDS.items()]
        extra = [(name, command.get_short_help_str()) for name, command in sorted(self._plugin_commands().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        if extra:
            with formatter.section("Commands from plugins"):
                formatter.write_dl(extra)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and exit: errors of the user in one message, bugs with a traceback."""
        self._from_plugins = None
        self.tracebacks = False
        try:
            result = super().main(args, prog_name or "ptqbench", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except BaseException as error:
            sys.exit(_exit_code(error, self.tracebacks))
        sys.exit(result if isinstance(result, int) else EXIT_OK)


def _guarded(info: PluginInfo, command: click.Command) -> click.Command:
    """A plugin's command, whose errors are the plugin's."""
    invoke = command.invoke

    def guarded(ctx: click.Context) -> Any:
        with calling(Call(Owner("command", str(command.name), info.name, info.module.partition(".")[0]), "")):
            return invoke(ctx)

    command.invoke = guarded  # type: ignore[method-assign]
    return command


def _exit_code(error: BaseException, tracebacks: bool) -> int:
    """Say what went wrong on stderr, and which exit code that is."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else EXIT_OK if error.code is None else EXIT_BUG
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, UserError):
        return _user_error(error, error if tracebacks else None)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("interrupted; the same command continues from here", err=True)
        return EXIT_INTERRUPTED
    # Plugins' code runs in every command: where they report, and where they bring commands.
    known = told(error)
    # Paths are checked where they are read; what slips through (a disk that fills up) is still no bug of ours.
    if known is None and isinstance(error, OSError):
        known = file_error(error)
    if known is not None:
        return _user_error(known, error if tracebacks else None)
    traceback.print_exception(error)
    notes = getattr(error, "__notes__", [])
    whose = f", unless of a plugin ({notes[0]})" if notes else ""
    click.echo(f"this is a bug in ptqbench {__version__}{whose}: please report it with the lines above", err=True)
    return EXIT_BUG


def _user_error(error: UserError, shown: BaseException | None) -> int:
    """Print an error that is reported in one message, after the traceback of `shown`."""
    if shown is not None:
        traceback.print_exception(shown)
    click.echo(f"error: {error.message}", err=True)
    for line in error.hint.splitlines():
        click.echo(f"  {line}", err=True)
    return error.exit_code


def _show_tracebacks(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if isinstance(ctx.command, LazyGroup):
        ctx.command.tracebacks = wanted


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ptqbench")
@click.option(
    "--traceback",
    is_flag=True,
    envvar=TRACEBACK,
    expose_value=False,
    callback=_show_tracebacks,
    help=f"Print the traceback also of errors that are reported in one message.  [env: {TRACEBACK}=1]",
)
def cli() -> None:
    """Compare post-training-quantization methods for diffusion models under one contract."""


def main() -> NoReturn:
    """The console script."""
    prepare()
    cli.main()
