"""`load_experiment`: from a recipe to a checked, expanded experiment, or to all of its problems at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ptqbench.errors import PluginError
from ptqbench.plugin.component import Bound
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.names import suggest
from ptqbench.recipe import checks
from ptqbench.recipe.bind import Binder, sound_values, validate
from ptqbench.recipe.defaults import SECTION as DEFAULTS
from ptqbench.recipe.defaults import read_defaults
from ptqbench.recipe.describe import describe_methods
from ptqbench.recipe.expand import expand
from ptqbench.recipe.experiment import (
    DEFAULT_SOLVER,
    Calibration,
    Cell,
    Evaluation,
    Experiment,
    PublishedRow,
    PublishedTable,
    Sampling,
)
from ptqbench.recipe.lineage import settle
from ptqbench.recipe.methods import read_methods
from ptqbench.recipe.problems import PLUGIN_FILES, Problems
from ptqbench.recipe.profiles import PROFILES, with_profile
from ptqbench.recipe.read import apply_overrides, read_recipe
from ptqbench.recipe.schema import (
    SECTIONS,
    CalibrationSection,
    EvaluationSection,
    PublishedRowSection,
    PublishedSection,
    RecipeSection,
    ReportSection,
    SamplingSection,
    Section,
    SweepSection,
)
from ptqbench.recipe.select import select

DEFAULT_PROBES = 64

S = TypeVar("S", bound=Section)


def load_experiment(
    source: str | Path | Mapping[str, Any],
    *,
    profile: str = "",
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    manager: PluginManager | None = None,
) -> Experiment:
    """Read, check and expand a recipe, given as a file or as TOML data.

    `profile` names one of the recipe's own, "" none. `overrides` are `key.path=value` strings, applied after it. `folder` is
    where relative paths in data start, the working folder if left out; those in a file start beside it. `manager` gets the
    recipe's single-file plugins; a new one with the installed plugins is made if none is given. Raises `RecipeError` with every
    problem in the recipe, or `RecipePluginError` if plugins are all that is wrong.
    """
    path = None if isinstance(source, Mapping) else Path(source)
    name = str(path) if path is not None else "recipe"
    problems = Problems()
    data = read_recipe(path) if path is not None else dict(source)  # type: ignore[arg-type]
    raw = apply_overrides(with_profile(data, profile, problems), overrides, problems)
    manager = manager if manager is not None else PluginManager()
    folder = path.parent if path is not None else folder or Path.cwd()
    steps = sound_values(SamplingSection, raw.get("sampling")).get("steps")
    experiment = _Loader(raw, path, Binder(manager, problems, folder, steps), folder).load()
    if problems.found or experiment is None:
        raise problems.error(name, manager.left_out())
    return experiment


def digest_of(raw: Mapping[str, Any], methods: Mapping[str, Any]) -> str:
    """SHA-256 of TOML data and of the methods as they were resolved, independent of the order of keys.

    A recipe that names a preset stays as it is when the preset changes; what it compares does not.
    """
    text = json.dumps([raw, methods], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plugin_files(raw: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """The single-file plugins that raw TOML data names; relative paths start at the recipe's folder."""
    recipe = raw.get("recipe")
    files = recipe.get("plugins") if isinstance(recipe, dict) else None
    for file in files if isinstance(files, list) else ():
        if isinstance(file, str):
            yield folder / os.path.expanduser(file)


class _Loader:
    """One pass over a recipe's sections; each reports into the same list and none stops the others."""

    def __init__(self, raw: dict[str, Any], path: Path | None, binder: Binder, folder: Path) -> None:
        self.raw = raw
        self.path = path
        self.folder = folder
        self.binder = binder
        self.problems = binder.problems

    def load(self) -> Experiment | None:
        """The experiment, or None if anything was reported that leaves a gap in it."""
        self._check_sections()
        files = self._load_plugins()
        recipe = self._section("recipe", RecipeSection)
        sampling = self._section("sampling", SamplingSection)
        calibration = self._section("calibration", CalibrationSection)
        evaluation_section = self._section("evaluation", EvaluationSection)
        model = self._model()
        solver = self.binder.bind("solver", self._table("sampling").get("solver", DEFAULT_SOLVER), ("sampling", "solver"))
        evaluation = self._evaluation(evaluation_section, sampling)
        reporters = self._reporters()
        cells = self._cells()
        published = self._published()
        budgets = (("sampling", SamplingSection), ("calibration", CalibrationSection), ("evaluation", EvaluationSection))
        checks.check_budgets({key: sound_values(model, self.raw.get(key)) for key, model in budgets}, self.problems)
        baseline = sound_values(RecipeSection, self.raw.get("recipe")).get("baseline")
        checks.check_baseline(baseline, self.raw.get("methods"), self.problems)
        if recipe is None or sampling is None or calibration is None or model is None or solver is None or evaluation is None:
            return None
        return Experiment(
            name=recipe.name,
            title=recipe.title or recipe.name,
            paper=recipe.paper,
            baseline=recipe.baseline,
            path=self.path,
            folder=self.folder.resolve(),
            raw=self.raw,
            digest=digest_of(self.raw, describe_methods(cells)),
            plugin_files=files,
            model=model,
            solver=solver,
            sampling=Sampling(**sampling.model_dump(exclude={"solver"})),
            calibration=Calibration(**calibration.model_dump()),
            evaluation=evaluation,
            cells=cells,
            published=published,
            reporters=reporters,
        )

    def _check_sections(self) -> None:
        for key in self.raw:
            if key not in SECTIONS:
                self.problems.add((key,), "unknown section", suggest(key, (*SECTIONS, PROFILES)))

    def _load_plugins(self) -> tuple[Path, ...]:
        files = []
        for i, file in enumerate(plugin_files(self.raw, self.folder)):
            try:
                self.binder.manager.load_file(file)
                files.append(file.resolve())
            except PluginError as error:
                self.problems.add_error((*PLUGIN_FILES, i), error)
        return tuple(files)

    def _section(self, key: str, model: type[S], *, needed: bool = True) -> S | None:
        if key not in self.raw and needed:
            self.problems.add((key,), "is missing", f"add a table [{key}]")
            return None
        section: S | None = validate(model, self.raw.get(key, {}), (key,), self.problems)
        return section

    def _table(self, key: str) -> dict[str, Any]:
        value = self.raw.get(key)
        return value if isinstance(value, dict) else {}

    def _model(self) -> Bound | None:
        value = self.raw.get("model")
        if isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("use"), str)):
            return self.binder.bind("model", value, ("model",))
        known = ", ".join(record.name for record in self.binder.manager.components("model"))
        where = ("model", "use") if isinstance(value, dict) and "use" not in value else ("model",)
        message = "is missing" if value is None or len(where) == 2 else "must be a table with use"
        self.problems.add(where, message, f'[model] use = "NAME", one of: {known}' if known else "")
        return None

    def _evaluation(self, section: EvaluationSection | None, sampling: SamplingSection | None) -> Evaluation | None:
        table = self._table("evaluation")
        named = table.get("features")
        features = self.binder.bind("features", named, ("evaluation", "features"))
        metrics = self.binder.bind_all("metric", table.get("metrics"), ("evaluation", "metrics"))
        if section is None or sampling is None or (features is None and named is not None):
            return None
        probes = section.probes or min(DEFAULT_PROBES, sampling.images)
        reference = None if section.reference is None else self.folder / os.path.expanduser(section.reference)
        return Evaluation(features, metrics, probes, reference)

    def _reporters(self) -> tuple[Bound, ...]:
        section = self._section("report", ReportSection, needed=False)
        formats = self._table("report").get("formats") if section is None else list(section.formats)
        return self.binder.bind_all("reporter", formats, ("report", "formats"))

    def _cells(self) -> tuple[Cell, ...]:
        table = self._table("sweep")
        plain = (
            {key: value for key, value in table.items() if key in SweepSection.model_fields}
            if table
            else self.raw.get("sweep", {})
        )
        section: SweepSection | None = validate(SweepSection, plain, ("sweep",), self.problems)
        sweep = sound_values(SweepSection, plain)
        steps = self.binder.steps
        defaults = read_defaults(self.raw.get(DEFAULTS, {}), self.problems)
        methods = read_methods(self.raw.get("methods"), defaults, table, steps, self.binder)
        checks.check_repeats(sweep.get("bits"), ("sweep", "bits"), "label", self.problems)
        checks.check_repeats(sweep.get("seeds"), ("sweep", "seeds"), "seed", self.problems)
        cells = expand(methods.variants, sweep.get("bits"), sweep.get("seeds", (0,)), steps, self.problems)
        settle(self.problems, methods.lines, self._table("methods"))
        # With part of the sweep or a method missing, sweep.only may name cells that are not there yet.
        unsure = methods.unsure if section is not None else methods.lines.keys()
        return select(cells, sweep.get("only", ()), self.problems, unsure) if cells else cells

    def _published(self) -> tuple[PublishedTable, ...]:
        tables = self.raw.get("published", [])
        if not isinstance(tables, list):
            self.problems.add(("published",), "must be an array of tables", "write [[published]] with two brackets")
            return ()
        found = []
        for i, table in enumerate(tables):
            section: PublishedSection | None = validate(PublishedSection, table, ("published", i), self.problems)
            written = table.get("rows") if isinstance(table, dict) else None
            for number, row in enumerate(written if isinstance(written, list) else ()):
                if isinstance(row, dict) and not row.keys() - PublishedRowSection.model_fields.keys():
                    where = ("published", i, "rows", number)
                    self.problems.add(where, "has no number", "add a column such as FID = 4.28")
            if section is not None:
                rows = tuple(PublishedRow(row.method, row.bits, dict(row.model_extra or {})) for row in section.rows)
                found.append(PublishedTable(section.title, section.source, rows))
        return tuple(found)
