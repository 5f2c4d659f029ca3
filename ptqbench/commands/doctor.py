"""`ptqbench doctor`: is this installation usable, and if not, what mends it?"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from ptqbench.api.files import require_folder
from ptqbench.api.settings import default_cache
from ptqbench.commands.output import json_option, print_json
from ptqbench.errors import EXIT_OK, EXIT_USAGE, UserError
from ptqbench.plugin.manager import PluginManager
from ptqbench.version import __version__

PACKAGES = ("torch", "torchvision", "diffusers", "scipy", "numpy", "pytorch-fid", "safetensors", "scikit-learn")
TIMEOUT = 180
"""Seconds for importing torch, torchvision and diffusers on a cold and slow disk."""

# Runs in another process, because a broken binary package can end the process that imports it.
PROBE = """
import json, sys
found = {"devices": ["cpu"], "broken": {}}
def attempt(name, use):
    try:
        use(__import__(name))
    except BaseException as error:
        found["broken"][name] = f"{type(error).__name__}: {error}".splitlines()[0]
def devices(torch):
    found["threads"] = torch.get_num_threads()
    for i in range(torch.cuda.device_count()):
        found["devices"].append(f"cuda:{i} ({torch.cuda.get_device_name(i)})")
    if torch.backends.mps.is_available():
        found["devices"].append("mps")
attempt("torch", devices)
attempt("torchvision", lambda module: __import__("torchvision.ops"))
attempt("diffusers", lambda module: module.UNet2DModel)
attempt("scipy", lambda module: __import__("scipy.linalg"))
attempt("pytorch_fid", lambda module: __import__("pytorch_fid.inception"))
print("\\n" + json.dumps(found))
"""


@dataclass
class Diagnosis:
    """What was found; `errors` make the installation unusable, `warnings` do not."""

    facts: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Check Python, packages, devices, the cache folder and plugins. Exits with 0 if ptqbench can run here."""
    diagnosis = diagnose()
    if as_json:
        print_json({"ok": not diagnosis.errors, **diagnosis.facts, "errors": diagnosis.errors, "warnings": diagnosis.warnings})
    else:
        _print(diagnosis)
    return EXIT_USAGE if diagnosis.errors else EXIT_OK


def diagnose() -> Diagnosis:
    """Look at everything once."""
    diagnosis = Diagnosis()
    facts = diagnosis.facts
    facts["ptqbench"] = __version__
    facts["python"] = f"{platform.python_version()} ({sys.executable})"
    facts["packages"] = {name: _version(name) for name in PACKAGES}
    probe = _probe()
    facts["devices"] = probe["devices"]
    facts["threads"] = probe.get("threads")
    _judge_packages(facts["packages"], probe["broken"], diagnosis)
    cache = default_cache()
    facts["cache"] = str(cache)
    try:
        require_folder(cache, "--cache")
    except UserError:
        diagnosis.errors.append(f"the cache folder {cache} cannot be written: set PTQBENCH_CACHE to another folder")
    _judge_plugins(diagnosis)
    return diagnosis


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _probe() -> dict[str, Any]:
    nothing: dict[str, Any] = {"devices": [], "broken": {}}
    try:
        command_line = [sys.executable, "-c", PROBE]
        done = subprocess.run(command_line, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return nothing | {"broken": {"torch": f"importing the packages took longer than {TIMEOUT} seconds"}}
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.splitlines() or ["no message"])[-1]
        return nothing | {"broken": {"torch": f"importing the packages ended Python (code {done.returncode}): {last}"}}
    return found


def _judge_packages(versions: dict[str, str | None], broken: dict[str, str], diagnosis: Diagnosis) -> None:
    missing = [name for name, found in versions.items() if found is None]
    if missing:
        remedy = f"python -m pip install {' '.join(missing)}"
        diagnosis.errors.append(f"not installed: {', '.join(missing)}. Remedy: {remedy}")
    if "torch" in broken and "torch" not in missing:
        remedy = "python -m pip install --force-reinstall torch"
        diagnosis.errors.append(f"torch does not work: {broken['torch']}. Remedy: {remedy}")
    elif "torchvision" in broken and "torchvision" not in missing:
        # What builds on torchvision fails with it, in words that hide the cause: one message is enough.
        diagnosis.errors.append(
            f"torchvision {versions['torchvision']} does not fit torch {versions['torch']} ({broken['torchvision']}). "
            "Both must come from the same release and the same index. "
            "Remedy: python -m pip install --upgrade --force-reinstall torch torchvision"
        )
    else:
        names = {"pytorch_fid": "pytorch-fid"}
        for module, reason in broken.items():
            name = names.get(module, module)
            if name not in missing:
                remedy = f"python -m pip install --upgrade {name}"
                diagnosis.errors.append(f"{name} {versions[name]} does not work: {reason}. Remedy: {remedy}")


def _judge_plugins(diagnosis: Diagnosis) -> None:
    manager = PluginManager(warn=diagnosis.warnings.append)
    diagnosis.facts["plugins"] = {
        "loaded": [{"name": info.name, "from": info.origin} for info in manager.plugins],
        "failed": [str(failure) for failure in manager.failed],
        "blocked": [info.name for info in manager.blocked],
    }
    if not manager.plugins:
        why = manager.left_out() or 'no distribution has an entry point in the group "ptqbench"; is ptqbench installed?'
        diagnosis.errors.append(f"no plugin loaded, so there is nothing to run: {why}")


def _plugin_lines(loaded: list[dict[str, str]]) -> list[tuple[str, str]]:
    """One line for each distribution or file that brings plugins."""
    names: dict[str, list[str]] = {}
    for plugin in loaded:
        names.setdefault(plugin["from"], []).append(plugin["name"])
    return [("plugins", f"{origin}: {', '.join(found)}") for origin, found in names.items()] or [("plugins", "none")]


def _print(diagnosis: Diagnosis) -> None:
    facts = diagnosis.facts
    lines = [("ptqbench", facts["ptqbench"]), ("python", facts["python"])]
    lines += [(name, found or "not installed") for name, found in facts["packages"].items()]
    lines += [("devices", ", ".join(facts["devices"]) or "none"), ("threads", str(facts["threads"] or "?"))]
    lines += [("cache", facts["cache"]), *_plugin_lines(facts["plugins"]["loaded"])]
    if facts["plugins"]["blocked"]:
        lines.append(("blocked", ", ".join(facts["plugins"]["blocked"])))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {value}")
    for warning in diagnosis.warnings:
        click.echo(f"warning: {warning}")
    for error in diagnosis.errors:
        click.echo(f"error: {error}")
    click.echo("usable" if not diagnosis.errors else "not usable")
