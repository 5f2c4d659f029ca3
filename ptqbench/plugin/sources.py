"""Where a plugin comes from: importing it in isolation, saying where it broke, and hashing its source."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from ptqbench.digest import code_digest, file_sha256
from ptqbench.errors import PluginError

T = TypeVar("T")

FILE_MODULE = "ptqbench_file_"
"""How the module names of single-file plugins begin."""

_VERSIONED = frozenset({"ptqbench", "torch", "torchvision", "diffusers", "numpy", "scipy", "pytorch_fid"})
"""What every key names anyway, by the core's code or by version."""

_IMPORTED: dict[Path, tuple[ModuleSpec | None, str]] = {}
"""Imported files of plugins: the spec that they were imported by, and their SHA-256 when they were first looked at."""

_MACHINERY = (str(Path(importlib.__file__).parent), "<frozen", str(Path(__file__).parent))


@dataclass(frozen=True)
class PluginInfo:
    """A plugin's name and origin.

    `distribution` is an installed distribution's name, or the file's path for a single-file plugin, whose `digest` is
    that of its code. `module` is where its hooks live.
    """

    name: str
    distribution: str
    version: str
    module: str
    path: Path | None = None
    digest: str = ""

    @property
    def origin(self) -> str:
        """Distribution and version, or the file, for messages."""
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Failure:
    """A plugin that was left out: `reason` in one line, `where` as file:line where that is known."""

    plugin: str
    origin: str
    reason: str
    where: str

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return f'plugin "{self.plugin}" (from {self.origin}): {self.reason}{place}'


def info_of(entry: EntryPoint, name: str) -> PluginInfo:
    """What is known of an entry point before it is imported."""
    distribution, version = named(entry.dist) if entry.dist else ("unknown distribution", "")
    return PluginInfo(name, distribution, version, entry.module)


@lru_cache
def named(dist: Distribution) -> tuple[str, str]:
    """Name and version, which importlib reads from the file for every question."""
    return dist.name, dist.version


def quietly(call: Callable[[], T]) -> T:
    """Run a plugin's code with stdout sent to stderr, as stdout belongs to results; `sys.exit` becomes an error."""
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return call()
        except SystemExit as error:
            raise RuntimeError(f"it called sys.exit({error.code!r})").with_traceback(error.__traceback__) from None


def failure_of(info: PluginInfo, error: BaseException) -> Failure:
    """An exception from a plugin's code as a record for warnings."""
    if isinstance(error, PluginError):
        return Failure(info.name, info.origin, error.message, "")
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(info.name, info.origin, reason, _where(info, error))


def _where(info: PluginInfo, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_MACHINERY)]
    top = info.module.partition(".")[0]
    own = [f for f in frames if info.path == Path(f.filename) or {top, f"{top}.py"} & set(Path(f.filename).parts)]
    chosen = own or frames
    return f"{chosen[-1].filename}:{chosen[-1].lineno}" if chosen else ""


def read_plugin_file(path: Path) -> PluginInfo:
    """Name, module name and digest of a single-file plugin. Raises `PluginError` if there is no such Python file."""
    path = path.resolve()
    if path.is_dir():
        raise PluginError(f"plugin file {path} is a folder", "name a .py file; an installed package is found anyway")
    if not path.is_file():
        raise PluginError(
            f"plugin file {path} does not exist", "check the name; paths in a recipe are relative to the recipe's folder"
        )
    if path.suffix != ".py":
        raise PluginError(f"plugin file {path} is not a .py file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PluginError(f"plugin file {path} cannot be read: {error.strerror}") from error
    place = hashlib.sha256(str(path).encode()).hexdigest()[:6]
    stem = "".join(c if c.isalnum() else "_" for c in path.stem)
    module = f"{FILE_MODULE}{stem}_{place}_{hashlib.sha256(content).hexdigest()[:8]}"
    return PluginInfo(path.name, str(path), "", module, path, code_digest({path.name: content}))


def import_file(info: PluginInfo) -> ModuleType:
    """Import a single-file plugin, once per content and place, under a module name of its own that shadows nothing.

    The source is compiled here because a cached .pyc may be older than an edit within the same second.
    """
    if info.module in sys.modules:
        return sys.modules[info.module]
    spec = importlib.util.spec_from_file_location(info.module, info.path)
    if spec is None or info.path is None:
        raise PluginError(f"plugin file {info.path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[info.module] = module
    try:
        exec(compile(_parsed(info.path), str(info.path), "exec"), module.__dict__)
    except BaseException:
        sys.modules.pop(info.module, None)
        raise
    return module


def _parsed(path: Path) -> ast.Module:
    """The syntax tree of a plugin file. Raises `PluginError` if one hook hides another, as where two files were made one."""
    tree = ast.parse(path.read_bytes(), str(path))
    counts = Counter(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("ptqbench_"))
    for name in (name for name, count in counts.items() if count > 1):
        raise PluginError(f'it defines "{name}" twice, and the last hides the others: return everything from one')
    return tree


def source_digest(packages: Iterable[str], file: Path | None = None, plugins: Collection[str] = ()) -> str:
    """SHA-256 over the code in the .py files of top-level packages or modules (`code_digest`); "" for none.

    What every key names anyway is left to it. What they and the single `file` import counts as well, and what that imports, if
    it is one of the `plugins` or was not installed by a package manager: code that changes without a new version. Imports none
    of them. Files are read again only when a size or a time of change differs. Raises `PluginError` if one of the
    `packages` cannot be found, or has changed since this process imported it.
    """
    files: dict[str, tuple[Path, int, int]] = {}
    wanted = sorted(set(packages) - _VERSIONED)

    def follow(states: Iterable[tuple[Path, int, int]]) -> None:
        names = {name for state in states for name in _imported(*state)}.difference(wanted)
        wanted.extend(name for name in sorted(names) if name in plugins or _uninstalled(name))

    if file:
        follow([_state(file)])
    for package in wanted:  # which grows meanwhile
        own = {f"{package}/{name}": _state(path) for name, path in _sources(package)}
        files |= own
        follow(own.values())
        for name, (path, *_) in own.items():
            _require_current(path, {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."), package})
    return _digest(tuple((name, *state) for name, state in sorted(files.items()))) if files else ""


def _require_current(path: Path, names: Collection[str]) -> None:
    """Raises `PluginError` if a file is another one than when its module, of one of these names, was first seen imported.

    This process would go on computing with the old code, and keep that under the new one's keys. A module that was reloaded
    has a new `__spec__`.
    """
    for module in (sys.modules[name] for name in names if name in sys.modules):
        if getattr(module, "__file__", None) != str(path):
            continue
        now = file_sha256(path)
        spec, then = _IMPORTED.get(path, (None, ""))
        if spec is module.__spec__ and then != now:
            message = f"{path} has changed since this process imported it"
            raise PluginError(message, "start Python again; what is finished is in the cache")
        _IMPORTED[path] = module.__spec__, now


def top_level(module: str) -> str:
    """The package that a module is in."""
    return module.partition(".")[0]


def _state(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def _imported(path: Path, size: int, changed: int) -> frozenset[str]:
    """Top-level names that a file imports, anywhere in it; one that does not parse says when it is imported itself."""
    with contextlib.suppress(SyntaxError):
        nodes = _statements(ast.parse(path.read_bytes(), str(path)))
        plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
        return frozenset(map(top_level, plain | froms)) - _VERSIONED
    return frozenset()


def _statements(tree: ast.Module) -> list[ast.AST]:
    """All of a file's statements. Expressions, which are most of a tree, hold none."""
    found: list[ast.AST] = [tree]
    for node in found:  # which grows meanwhile
        found += (
            part for part in ast.iter_child_nodes(node) if isinstance(part, (ast.stmt, ast.excepthandler, ast.match_case))
        )
    return found


@lru_cache
def _uninstalled(package: str) -> bool:
    """Whether a package is somebody's own files on the path."""
    if package in sys.stdlib_module_names:
        return False
    spec = _spec(package)
    # Where it lies and no list of its files: a library may have thousands.
    places = (spec.submodule_search_locations or [spec.origin or ""]) if spec else []
    return any(not {"site-packages", "dist-packages"} & set(Path(place).parts) for place in places)


@lru_cache(maxsize=256)
def _digest(files: tuple[tuple[str, Path, int, int], ...]) -> str:
    return code_digest({name: path.read_bytes() for name, path, *_ in files})


def _sources(package: str) -> list[tuple[str, Path]]:
    spec = _spec(package)
    if spec is None:
        raise PluginError(f"the package {package} that a plugin points at cannot be found", "is it installed?")
    if spec.submodule_search_locations:
        roots = [Path(root) for root in spec.submodule_search_locations]
        return sorted((path.relative_to(root).as_posix(), path) for root in roots for path in root.rglob("*.py"))
    origin = Path(spec.origin) if spec.origin else None
    return [(origin.name, origin)] if origin and origin.suffix == ".py" and origin.is_file() else []


def _spec(package: str) -> ModuleSpec | None:
    """Where a package is, without importing it; None if it is nowhere."""
    loaded = sys.modules.get(package)
    with contextlib.suppress(ImportError, ValueError):
        return loaded.__spec__ if loaded is not None and loaded.__spec__ else importlib.util.find_spec(package)
    return None
