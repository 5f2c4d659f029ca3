"""Whether a plugin can be imported without a trace: it prints nothing, and moves nothing that all share."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ptqbench.failures import PluginFault
from ptqbench.process.snapshot import listed, remedies, undisturbed
from ptqbench.testing.trial import Trial


def imports_quietly(trial: Trial) -> None:
    """Importing it prints nothing, and leaves streams, defaults, threads and the working folder alone."""
    info = next(info for info in trial.manager.plugins if info.name == trial.bound.plugin)
    target = trial.bound.component.target
    modules = [info.module, *([target.partition(":")[0]] if isinstance(target, str) else [])]
    found = _in_this_process(info.path) if info.path else _in_a_fresh_process(tuple(dict.fromkeys(modules)))
    if found["printed"]:
        first = str(found["printed"]).strip().splitlines()[0]
        raise _fault(info.name, f"prints on import: {first!r}", "a module defines things; print in functions, or not at all")
    if found["moved"]:
        raise _fault(info.name, f"moves {found['moved']} on import", f"{found['remedy']}: a module only defines things")


def _fault(plugin: str, what: str, remedy: str) -> PluginFault:
    return PluginFault(f'the plugin "{plugin}" {what}', remedy)


def _in_this_process(path: Path) -> dict[str, Any]:
    """Run a file once more, under a name of its own."""
    with _noted() as found:
        exec(compile(path.read_bytes(), str(path), "exec"), {"__name__": f"ptqbench_trial_{path.stem}", "__file__": str(path)})
    return found


@cache
def _in_a_fresh_process(modules: tuple[str, ...]) -> dict[str, Any]:
    """Import modules where nothing has imported them before."""
    command = [sys.executable, "-m", __name__, *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def _noted() -> Iterator[dict[str, Any]]:
    """What the block printed and moved, which is put back."""
    import torch  # noqa: F401 (its settings are watched from the start)

    found: dict[str, Any] = {}
    said = io.StringIO()
    with undisturbed() as moved, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield found
    found |= {"printed": said.getvalue(), "moved": listed(moved.values()), "remedy": remedies(moved.values())}


def main() -> None:
    """Import the modules that are named, and print as JSON what that did."""
    with _noted() as found:
        for name in sys.argv[1:]:
            importlib.import_module(name)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
