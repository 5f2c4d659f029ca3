"""Where and how to compute: what is not said is chosen to fit the device."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbench.api.files import require_folder
from ptqbench.errors import UserError
from ptqbench.plugin.classes import check_classes
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.bind import Binder
from ptqbench.recipe.experiment import Experiment
from ptqbench.recipe.problems import Problems

if TYPE_CHECKING:
    from ptqbench.roles.executor import Executor
    from ptqbench.stage.context import Settings

Chosen = str | Mapping[str, Any]
"""An executor by its name, or as a table of "use" and its options."""


def default_cache() -> Path:
    """PTQBENCH_CACHE, or the user's cache folder; a user without a home, as in some containers, has one for temporary files."""
    if named := os.environ.get("PTQBENCH_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "ptqbench"
    try:
        return Path.home() / ".cache" / "ptqbench"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"ptqbench-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def executor_for(experiment: Experiment, chosen: Chosen = "local") -> Executor:
    """An executor of an installed plugin or of the recipe's own files.

    Raises `UserError` for one that is not there, and for options that it does not have.
    """
    table = {"use": chosen} if isinstance(chosen, str) else dict(chosen)
    manager, problems = PluginManager(experiment.plugin_files, warn=lambda _: None), Problems()
    if not isinstance(table.get("use"), str):
        raise UserError("the table of an executor does not say which", 'for example {"use": "ray", "address": "auto"}')
    bound = Binder(manager, problems).bind("executor", table, ("executor",))
    if bound is None:
        raise problems.error("who does the work", manager.left_out())
    check_classes([bound])
    made: Executor = bound.create()
    return made


def settings_for(
    cache: str | Path | None = None, device: str = "auto", workers: int | None = None, threads: int | None = None
) -> Settings:
    """Settings of a run.

    Raises `UserError` for a device that is not there, and for a cache that nothing can be written to.
    """
    # Here, for commands that never compute to stay without torch.
    from ptqbench.running.executor import default_threads, default_workers
    from ptqbench.stage.context import Settings, pick_device

    folder = default_cache() if cache is None else Path(cache)
    require_folder(folder, "--cache")
    chosen = pick_device(device)
    workers = workers or default_workers(chosen)
    return Settings(folder, str(chosen), workers, threads or default_threads(chosen, workers))
