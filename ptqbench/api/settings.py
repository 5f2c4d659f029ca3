"""Where and how to compute: what is not said is chosen to fit the device."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ptqbench.api.files import require_folder

if TYPE_CHECKING:
    from ptqbench.stage.context import Settings


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
