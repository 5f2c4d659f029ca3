"""Everything that is wrong with a recipe, collected in one pass and reported together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ptqbench.errors import PluginError, UserError
from ptqbench.recipe.keypath import KeyPath, show


@dataclass(frozen=True)
class Problem:
    """One thing to mend: where, what is wrong, and the remedy. `plugin` marks those that a plugin causes."""

    path: KeyPath
    message: str
    hint: str = ""
    plugin: bool = False

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
        problem = Problem(path, message, hint, plugin)
        if problem not in self.found:
            self.found.append(problem)

    def extend(self, more: Sequence[Problem]) -> None:
        """Note several."""
        for problem in more:
            self.add(problem.path, problem.message, problem.hint, plugin=problem.plugin)

    def add_error(self, path: KeyPath, error: UserError) -> None:
        """Note an error that something else raised; a plugin's keeps its exit code if it is the only kind."""
        # The list of plugins that did not load stands once at the end of the report, not under each problem.
        hint = error.hint.partition("\n")[0]
        self.add(path, error.message, hint, plugin=isinstance(error, PluginError))

    def error(self, recipe: str, notes: str = "") -> UserError:
        """The exception to raise: a `RecipeError`, or a `RecipePluginError` if plugins are all that is wrong."""
        only_plugins = all(problem.plugin for problem in self.found)
        kind: type[RecipeError | RecipePluginError] = RecipePluginError if only_plugins else RecipeError
        many = f"{len(self.found)} problems" if len(self.found) > 1 else "1 problem"
        lines = [f"{recipe}: {many}"]
        for number, problem in enumerate(self.found, start=1):
            place = f"{problem.place}: " if problem.path else ""
            lines.append(f"  {number}. {place}{problem.message}")
            lines += [f"     {line}" for line in problem.hint.splitlines()]
        error = kind("\n".join(lines), notes if any(problem.plugin for problem in self.found) else "")
        error.problems = tuple(self.found)
        return error


def fail(recipe: str, message: str, hint: str = "") -> RecipeError:
    """The exception for a recipe that cannot even be read."""
    error = RecipeError(f"{recipe}: {message}", hint)
    error.problems = (Problem((), message, hint),)
    return error
