"""From component references to components with validated options."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ptqbench.errors import UserError
from ptqbench.plugin.component import Bound, Preset
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.names import role_words
from ptqbench.plugin.paths import FOLDER
from ptqbench.plugin.records import Record
from ptqbench.plugin.steps import STEPS
from ptqbench.recipe.keypath import KeyPath, at
from ptqbench.recipe.presets import whole_preset
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.schema import METHOD_REFERENCES
from ptqbench.recipe.words import problems_of


def validate(model: type[BaseModel], data: object, where: KeyPath, problems: Problems) -> Any:
    """`data` as an instance of `model`, or None with the reasons reported.

    It goes through JSON because pydantic's strict mode takes an array for a tuple and a string for an enum there only.
    """
    try:
        return model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        problems.extend(problems_of(error, model, where))
        return None


def sound_values(model: type[BaseModel], data: object) -> dict[str, Any]:
    """The keys of a section that are right by themselves, as they are written, with defaults for those left out.

    Checks across sections read these, so that a mistake in one key hides none that another key is part of.
    """
    if not isinstance(data, dict):
        return {}
    try:
        model.model_validate_json(json.dumps(data))
        wrong = set()
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
    defaults = {key: field.get_default() for key, field in model.model_fields.items() if not field.is_required()}
    return {key: value for key, value in {**defaults, **data}.items() if key in model.model_fields and key not in wrong}


@dataclass
class Binder:
    """Resolves references with one manager, and reports what does not resolve; paths in options start at `folder`, and
    numbers of sampling steps end at `steps`."""

    manager: PluginManager
    problems: Problems
    folder: Path | None = None
    steps: int | None = None
    _records: dict[tuple[str, str], Record | UserError] = field(default_factory=dict)
    _presets: dict[str, Preset | UserError] = field(default_factory=dict)

    def record(self, role: str, name: str) -> Record | UserError:
        """The component, or the reason why there is none."""
        key = (role, name)
        if key not in self._records:
            try:
                self._records[key] = self.manager.find(role, name)
            except UserError as error:
                self._records[key] = error
        return self._records[key]

    def chosen(self, tables: Iterable[Mapping[str, Any]], reference: tuple[str, ...]) -> list[Record | UserError]:
        """What completed methods name at a reference, or the reasons why that is not there."""
        names = [name for table in tables if (name := reference_name(table, reference))]
        return [self.record(METHOD_REFERENCES[reference][0], name) for name in names]

    def named(self, role: str, reference: object) -> Record | None:
        """The component that a string or a table names, whatever its options are; None without a report if there is none."""
        name = reference_name({"it": reference}, ("it",))
        record = None if name is None else self.record(role, name)
        return record if isinstance(record, Record) else None

    def has_option(self, table: Mapping[str, Any], path: tuple[str, ...]) -> bool:
        """Whether the component that a completed method names at `path[:-1]` is there and has the option `path[-1]`."""
        records = self.chosen([table], path[:-1])
        return any(
            not isinstance(record, UserError) and path[-1] in record.component.options.model_fields for record in records
        )

    def preset(self, name: str) -> Preset | UserError:
        """The preset with what it inherits, or the reason why there is none."""
        if name not in self._presets:
            try:
                self._presets[name] = whole_preset(self.manager, name)
            except UserError as error:
                self._presets[name] = error
        return self._presets[name]

    def bind(self, role: str, reference: object, where: KeyPath) -> Bound | None:
        """The component behind a string or a table with `use`, or None with the reason reported.

        A reference of the wrong shape gives None without a report, since the schema has already refused it.
        """
        table = {"use": reference} if isinstance(reference, str) else reference
        if not isinstance(table, dict) or not isinstance(table.get("use"), str):
            return None
        record = self.record(role, table["use"])
        if isinstance(record, UserError):
            self.problems.add_error(where, record)
            return None
        given = {key: value for key, value in table.items() if key != "use"}
        return self._with_options(record, given, where)

    def _with_options(self, record: Record, given: Mapping[str, Any], where: KeyPath) -> Bound | None:
        model = record.component.options
        try:
            options = model.model_validate_json(json.dumps(given), context={FOLDER: self.folder, STEPS: self.steps})
            return self.manager.bind(record, options)
        except ValidationError as error:
            noun = f'option of the {role_words(record.role)} "{record.name}"'
            self.problems.extend(problems_of(error, model, where, noun))
        except UserError as error:
            self.problems.add_error(where, error)
        return None

    def bind_all(self, role: str, references: object, where: KeyPath, *, one_of_a_name: bool = False) -> tuple[Bound, ...]:
        """Those of an array that resolve, in order; a repeated one is reported, with `one_of_a_name` whatever its options."""

        def same(a: Bound, b: Bound) -> bool:
            return a.name == b.name if one_of_a_name else a.key == b.key

        bound: list[Bound] = []
        for i, reference in enumerate(references if isinstance(references, list) else ()):
            item = self.bind(role, reference, (*where, i))
            if item is not None and any(same(item, other) for other in bound):
                self.problems.add((*where, i), f'"{item.name}" is named twice', "leave one out")
            elif item is not None:
                bound.append(item)
        return tuple(bound)


def is_table(value: object, where: KeyPath, problems: Problems, hint: str) -> bool:
    """Whether a value is a table; if not, it is reported."""
    if isinstance(value, dict):
        return True
    problems.add(where, "must be a table", hint)
    return False


def reference_name(table: Mapping[str, Any], path: Sequence[str]) -> str | None:
    """The `use` of the reference at `path` in a completed method, if it is well formed."""
    value = at(table, path)
    name = value.get("use") if isinstance(value, dict) else value
    return name if isinstance(name, str) else None
