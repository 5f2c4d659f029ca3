"""The plugin manager: finds plugins, keeps a broken one from hurting the rest, and resolves names.

Plugins are entry points of the group "ptqbench", and single files that a recipe or a command names. pluggy holds the
hook implementations; it is called once per plugin, when the plugin registers, and never in an inner loop. Nothing here
imports torch.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from ptqbench.errors import PluginError, UserError
from ptqbench.plugin import hookspecs
from ptqbench.plugin.checks import Hooks, check_hooks, check_records, hook_results
from ptqbench.plugin.component import Bound, Component, Options, Preset
from ptqbench.plugin.hookspecs import PRESETS, PROJECT, ROLES
from ptqbench.plugin.names import role_words, suggest, with_article
from ptqbench.plugin.preset_file import preset_file, read_presets
from ptqbench.plugin.records import PresetRecord, R, Record, called
from ptqbench.plugin.sources import (
    FILE_MODULE,
    Failure,
    PluginInfo,
    failure_of,
    import_file,
    info_of,
    named,
    quietly,
    read_plugin_file,
    source_digest,
    top_level,
)
from ptqbench.process.snapshot import listed, remedies, undisturbed

if TYPE_CHECKING:
    import click

GROUP = "ptqbench"
BLOCK = "PTQBENCH_BLOCK"
"""Environment variable: names of installed plugins to leave out, separated by commas; "*" leaves out all of them."""


class AwaitedError(PluginError):
    """There is no component of a name that a plugin file which did not load may have brought."""


def warn_on_stderr(message: str) -> None:
    """Print one warning."""
    print(f"warning: {message}", file=sys.stderr)


class PluginManager:
    """All plugins with their components and presets.

    `files` are single-file plugins to load as well (see `load_file`). `block` overrides the environment variable
    PTQBENCH_BLOCK; `installed=False` starts without entry points; `warn` gets one message for each plugin that had to be left
    out.
    """

    def __init__(
        self,
        files: Iterable[str | Path] = (),
        *,
        installed: bool = True,
        block: str | None = None,
        warn: Callable[[str], None] = warn_on_stderr,
    ) -> None:
        self._hooks = Hooks(PROJECT)
        self._hooks.add_hookspecs(hookspecs)
        self._warn = warn
        self._records: list[Record] = []
        self._presets: list[PresetRecord] = []
        self._digests: dict[tuple[Path | str | None, ...], str] = {}
        self.plugins: list[PluginInfo] = []
        self.failed: list[Failure] = []
        self.blocked: list[PluginInfo] = []
        self.broken_files: list[Path] = []
        if installed:
            self._load_installed(os.environ.get(BLOCK, "") if block is None else block)
        for file in files:
            self.load_file(file)

    def _load_installed(self, block: str) -> None:
        blocked = {name.strip() for name in block.split(",")}
        entries = sorted(set(entry_points(group=GROUP)), key=lambda e: (e.name, named(e.dist) if e.dist else (), e.value))
        counts = Counter(entry.name for entry in entries)
        for entry in entries:
            # Two distributions may choose one plugin name; qualified names must tell them apart.
            unique = entry.name if counts[entry.name] == 1 or entry.dist is None else f"{entry.name}@{named(entry.dist)[0]}"
            info = info_of(entry, unique)
            if "*" in blocked or blocked & {entry.name, unique}:
                self.blocked.append(info)
            else:
                self._load_entry(entry, info)

    def _load_entry(self, entry: EntryPoint, info: PluginInfo) -> None:
        try:
            self._register(quietly(entry.load), info)
        except Exception as error:  # a plugin may raise anything, and must not take the program with it
            failure = failure_of(info, error)
            self.failed.append(failure)
            self._warn(f"left out {failure}; set {BLOCK}={info.name} to disable it without this warning")

    def load_file(self, path: str | Path) -> PluginInfo:
        """Load a single-file plugin; the same file twice is loaded once. The file must be self-contained.

        Raises `PluginError` if it is missing, raises on import, or registers something wrong.
        """
        try:
            return self._load_file(Path(path))
        except PluginError:
            self.broken_files.append(Path(path))
            raise

    def _load_file(self, path: Path) -> PluginInfo:
        info = read_plugin_file(path)
        for known in self.plugins:
            if known.path == info.path:
                return known
            if known.name == info.name:
                raise PluginError(f"two plugin files have one name: {known.path} and {info.path}", "rename one")
        try:
            with undisturbed() as moved:
                self._register(quietly(lambda: import_file(info)), info)
        except Exception as error:
            raise PluginError(f"cannot load {failure_of(info, error)}", "mend the file or leave it out") from error
        # What modules do with warnings while they are imported concerns nobody's numbers.
        if wrong := [shared for name, shared in moved.items() if name != "warnings"]:
            self._warn(f'plugin "{info.name}" moved {listed(wrong)} when it was imported: put back; {remedies(wrong)}')
        return info

    def register(self, plugin: object, info: PluginInfo) -> None:
        """Register a plugin object that exists already. Raises `PluginError`, and then leaves nothing behind."""
        try:
            self._register(plugin, info)
        except Exception as error:
            raise PluginError(f"cannot register {failure_of(info, error)}") from error

    def _register(self, plugin: object, info: PluginInfo) -> None:
        check_hooks(self._hooks, plugin)
        try:
            self._hooks.register(plugin, info.name)
            self._hooks.check_pending()
            found = quietly(lambda: self._collect(plugin))
        except BaseException:
            # pluggy keeps the hooks that it accepted before the one that it refused.
            if self._hooks.has_plugin(info.name):
                self._hooks.unregister(name=info.name)
            raise
        self._records += [Record(item, info) for item in found if isinstance(item, Component)]
        self._presets += [PresetRecord(item, info) for item in found if isinstance(item, Preset)]
        self.plugins.append(info)

    def _collect(self, plugin: object) -> list[Component | Preset]:
        hook = "ptqbench_components"
        found = [item for result in hook_results(self._hooks, plugin, hook) for item in check_records(f'"{hook}"', result)]
        path = preset_file(plugin)
        return found + (check_records(str(path), read_presets(path)) if path else [])

    def components(self, role: str | None = None) -> tuple[Record, ...]:
        """All components, or those of one role, in the order of roles, names and plugins."""
        order = {item.name: i for i, item in enumerate(ROLES)}
        chosen = (record for record in self._records if role in (None, record.role))
        return tuple(sorted(chosen, key=lambda r: (order[r.role], r.name, r.plugin.name)))

    def presets(self) -> tuple[PresetRecord, ...]:
        """All presets in the order of names and plugins."""
        return tuple(sorted(self._presets, key=lambda r: (r.name, r.plugin.name)))

    def offers(self, role: str | None = None) -> tuple[Record | PresetRecord, ...]:
        """Components and presets as they are listed: presets come last, under the role "method"."""
        return (*self.components(role), *(self.presets() if role in (None, PRESETS.name) else ()))

    def clashes(self, record: Record | PresetRecord) -> tuple[Record | PresetRecord, ...]:
        """What other plugins offer under the same name in the same role."""
        return tuple(r for r in self.offers(record.role) if r.name == record.name and r.plugin != record.plugin)

    def matches(self, name: str, role: str | None = None) -> tuple[Record | PresetRecord, ...]:
        """What is called `name` or "plugin/name", of one role or of all."""
        return called(name, self.offers(role))

    def find(self, role: str, name: str) -> Record:
        """The component that a recipe means by `name` or "plugin/name".

        Raises `PluginError` if two plugins offer it or if one that was left out may have offered it (`AwaitedError` if that
        is a file), else `UserError`.
        """
        return self._only(role, name, called(name, self.components(role)))

    def find_preset(self, name: str) -> PresetRecord:
        """The preset that a recipe means by `name` or "plugin/name". Raises as `find` does."""
        return self._only(PRESETS.name, name, called(name, self.presets()))

    def _only(self, role: str, name: str, found: tuple[R, ...]) -> R:
        if len(found) == 1:
            return found[0]
        if found:
            origins = " and ".join(f'plugin "{r.plugin.name}" (from {r.plugin.origin})' for r in found)
            choices = " or ".join(f'"{r.qualified}"' for r in found)
            raise PluginError(f'{role_words(role)} "{name}" is offered by {origins}', f"say which one is meant: {choices}")
        raise self._missing(role, name)

    def _missing(self, role: str, name: str) -> UserError:
        known = suggest(name, (r.name for r in self.offers(role)), "known")
        elsewhere = sorted({with_article(r.role) for r in self.matches(name)})
        if elsewhere:
            return UserError(f'"{name}" is {" and ".join(elsewhere)}, not {with_article(role)}', known)
        if self.broken_files:
            files = ", ".join(path.name for path in self.broken_files)
            return AwaitedError(f'there is no {role_words(role)} called "{name}"', f"{files} did not load and may bring it")
        left_out = self.left_out()
        if left_out:
            message = f'no {role_words(role)} called "{name}" in the plugins that loaded'
            return PluginError(message, f"{known}\n{left_out}")
        return UserError(f'there is no {role_words(role)} called "{name}"', known)

    def left_out(self) -> str:
        """The plugins that failed or were blocked, a line each with the reason; "" if all loaded."""
        lines = [f"did not load: {failure}" for failure in self.failed]
        if self.blocked:
            lines.append(f"blocked by {BLOCK}: {', '.join(info.name for info in self.blocked)}")
        return "\n".join(lines)

    def fingerprint(self, record: Record) -> str:
        """SHA-256 of the source behind a component: of the plugin's file or top-level package, of the target's package, and of
        all that these import, as far as it is another plugin's or is installed nowhere; the core's is in every key anyway."""
        target = record.component.target
        module = target.partition(":")[0] if isinstance(target, str) else target.__module__
        names = {top_level(name) for name in (module, record.plugin.module) if not name.startswith(FILE_MODULE)}
        asked = (record.plugin.path, *sorted(names))
        if asked not in self._digests:
            plugins = {top_level(info.module) for info in self.plugins}
            self._digests[asked] = record.plugin.digest + source_digest(names, record.plugin.path, plugins)
        return self._digests[asked]

    def bind(self, record: Record, options: Options) -> Bound:
        """A component with validated options, ready for the engine."""
        return Bound(record.component, options, record.plugin.name, self.fingerprint(record))

    def default(self, role: str, name: str) -> Bound:
        """A component with the options that it has when nobody sets any. Raises as `find` does."""
        record = self.find(role, name)
        return self.bind(record, record.component.options())

    def commands(self) -> dict[str, tuple[PluginInfo, click.Command]]:
        """Commands that plugins add to the command line, by name; a plugin whose hook fails loses its commands only."""
        found: dict[str, tuple[PluginInfo, click.Command]] = {}
        for info in self.plugins:
            try:
                for command in quietly(lambda info=info: self._commands_of(info)):  # type: ignore[misc]
                    found.setdefault(str(command.name), (info, command))
            except Exception as error:
                self._warn(f"no commands from {failure_of(info, error)}; set {BLOCK}={info.name} to disable the plugin")
        return found

    def _commands_of(self, info: PluginInfo) -> list[click.Command]:
        import click

        results = hook_results(self._hooks, self._hooks.get_plugin(info.name), "ptqbench_commands")
        commands = [command for result in results for command in result]
        for command in commands:
            if not isinstance(command, click.Command):
                raise PluginError(f'"ptqbench_commands" returned {type(command).__name__} instead of click commands')
        return commands
