"""Everything that is wrong with a recipe, collected in one pass and reported together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ptqbench.errors import PluginError, UserError
from ptqbench.plugin.manager import AwaitedError
from ptqbench.recipe.keypath import KeyPath, show

PLUGIN_FILES: KeyPath = ("recipe", "plugins")
"""The key that names a recipe's plugin files."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend: where, what is wrong, and the remedy. `plugin` marks those that a plugin causes.

    `follows` marks those that may be gone once a plugin file loads that did not; they are told as a hint under that problem.
    """

    path: KeyPath
    message: str
    hint: str = ""
    plugin: bool = False
    follows: bool = False

    @property
    def place(self) -> str:
        return show(self.path)


class RecipeError(UserError):
    """A recipe that cannot be run as it is written; `problems` has each thing to mend."""

    problems: tuple[Problem, ...] = ()


class RecipePluginError(PluginError):
    """A recipe that is well written but needs a plugin that did not load; `problems` says which."""

    problems: tuple[Problem, ...] = ()


@dataclass
class Problems:
    """A growing list of problems without repetitions."""

    found: list[Problem] = field(default_factory=list)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def add(self, path: KeyPath, message: str, hint: str = "", *, plugin: bool = False) -> None:
        """Note a problem once."""
        self.extend([Problem(path, message, hint, plugin)])

    def extend(self, more: Sequence[Problem]) -> None:
        """Note several, each once."""
        for problem in more:
            if problem not in self.found:
                self.found.append(problem)

    def add_error(self, path: KeyPath, error: UserError) -> None:
        """Note an error that something else raised; a plugin's keeps its exit code if it is the only kind."""
        # The list of plugins that did not load stands once at the end of the report, not under each problem.
        hint = error.hint.partition("\n")[0]
        plugin, follows = isinstance(error, PluginError), isinstance(error, AwaitedError)
        self.extend([Problem(path, error.message, hint, plugin, follows)])

    def error(self, recipe: str, notes: str = "") -> UserError:
        """The exception to raise: a `RecipeError`, or a `RecipePluginError` if plugins are all that is wrong."""
        found = self._without_what_follows()
        only_plugins = all(problem.plugin for problem in found)
        kind: type[RecipeError | RecipePluginError] = RecipePluginError if only_plugins else RecipeError
        many = f"{len(found)} problems" if len(found) > 1 else "1 problem"
        lines = [f"{recipe}: {many}"]
        for number, problem in enumerate(found, start=1):
            place = f"{problem.place}: " if problem.path else ""
            lines.append(f"  {number}. {place}{problem.message}")
            lines += [f"     {line}" for line in problem.hint.splitlines()]
        error = kind("\n".join(lines), notes if any(problem.plugin for problem in found) else "")
        error.problems = tuple(found)
        return error

    def _without_what_follows(self) -> list[Problem]:
        """The problems, with those that may follow from a plugin file's as lines of its hint, if there is such a file."""
        causes = [problem for problem in self.found if problem.path[:2] == PLUGIN_FILES]
        if not causes:
            return self.found
        lines = [f"perhaps therefore: {p.place}: {p.message}" for p in self.found if p.follows]
        told = replace(causes[-1], hint="\n".join([*([causes[-1].hint] if causes[-1].hint else []), *lines]))
        return [told if problem is causes[-1] else problem for problem in self.found if not problem.follows]


def fail(recipe: str, message: str, hint: str = "") -> RecipeError:
    """The exception for a recipe that cannot even be read."""
    error = RecipeError(f"{recipe}: {message}", hint)
    error.problems = (Problem((), message, hint),)
    return error
