"""What nobody meant: 300 generated recipes, and 200 damaged records, baselines, images and archives.

Whatever is put in, the program answers with one of its exit codes, never with a traceback, and damage never passes.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from enginekit import recipe
from gate_samples import steady
from PIL import Image

from ptqbench.cli import cli
from ptqbench.errors import UserError
from ptqbench.evaluate.archive import read_statistics
from ptqbench.evaluate.pictures import open_pictures, readable
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.load import load_experiment
from ptqbench.results.record import RunRecord

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3.5,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "\N{SNOWMAN}",
    "../x",
    [],
    {},
    [[]],
    {"a": 1},
)
"""Values that stand where others belong."""

RECIPES, RECORDS, BASELINES, PICTURES, ARCHIVES = 300, 80, 60, 30, 30


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below a value of dicts and lists."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places(inner)


def bent(value: Any, rng: random.Random) -> Any:
    """A copy in which a few entries are gone, odd, renamed, doubled or another's."""
    made = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        found = list(places(made))
        if not found:
            return made
        holder, key = rng.choice(found)
        way = rng.choice(("drop", "odd", "odd", "rename", "swap"))
        if way == "drop":
            del holder[key]
        elif way == "odd":
            holder[key] = copy.deepcopy(rng.choice(ODD))
        elif way == "rename" and isinstance(holder, dict):
            holder[f"{key}{rng.choice('x_. ')}"] = holder.pop(key)
        else:
            other, name = rng.choice(found)
            holder[key] = copy.deepcopy(other[name])
    return made


def broken(content: bytes, rng: random.Random) -> bytes:
    """A copy with bytes flipped, cut off, cut out, or put in."""
    data, at = bytearray(content), rng.randrange(len(content))
    match rng.choice(("flip", "cut", "out", "in")):
        case "flip":
            data[at] ^= 1 << rng.randrange(8)
        case "cut":
            del data[at:]
        case "out":
            del data[at : at + rng.randint(1, 50)]
        case "in":
            data[at:at] = rng.randbytes(rng.randint(1, 20))
    return bytes(data)


def said(result: Result, what: str) -> None:
    """An exit code of the program's own, and words instead of a traceback."""
    assert 0 <= result.exit_code <= 5, f"{what}: exit {result.exit_code}\n{result.stderr[-2000:]}"
    assert "Traceback" not in result.stderr, f"{what}\n{result.stderr[-2000:]}"
    assert result.exit_code == 0 or result.output.strip() or result.stderr.strip(), what


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(scope="module")
def manager() -> PluginManager:
    """One for all recipes: finding plugins takes longer than a recipe."""
    return PluginManager()


def test_generated_recipes_are_loaded_or_refused_with_places(manager, tmp_path):
    rng = random.Random(0)
    refused = 0
    path = tmp_path / "recipe.toml"
    for i in range(RECIPES):
        made = bent(recipe(), rng)
        text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in made.items())
        content = text.encode("utf-8", "replace")
        path.write_bytes(broken(content, rng) if content and i % 3 == 0 else content)
        try:
            load_experiment(path, manager=manager)
        except UserError as error:
            assert error.exit_code in (2, 3), path.read_text(errors="replace")
            assert str(path) in error.message
            refused += 1
        if i % 30 == 0:  # the command itself takes longer
            said(invoke("check-recipe", str(path)), path.read_text(errors="replace"))
    assert RECIPES // 3 < refused < RECIPES


def toml(value: Any) -> str:
    """A value as TOML, or as something that is none (None)."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A run's record and a baseline that it passes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/results.json").write_text(steady().to_json(), encoding="utf-8")
    assert invoke("check", "run", "--baseline", "base.toml", "--update").exit_code == 0
    assert invoke("check", "run", "--baseline", "base.toml").exit_code == 0
    return tmp_path / "run/results.json", tmp_path / "base.toml"


def measured(record: RunRecord) -> dict[Any, Any]:
    """What a gate has to look at: every number with its protocol and what it is of, rounded far below what is told apart."""
    return {
        (cell.method, cell.bits, cell.variant, cell.seed, cell.status, name): (round(x.value, 2), x.protocol)
        for cell in record.cells
        for name, x in cell.metrics.items()
    }


def test_damaged_records_are_shown_or_refused_and_never_pass(gate):
    rng, (path, _) = random.Random(1), gate
    whole = json.loads(path.read_text())
    for i in range(RECORDS):
        content = json.dumps(bent(whole, rng)).encode()
        path.write_bytes(broken(json.dumps(whole).encode(), rng) if i % 2 else content)
        for command in (("show", "run"), ("check", "run", "--baseline", "base.toml")):
            result = invoke(*command)
            said(result, f"{command[0]} of record {i}")
        if result.exit_code == 0:
            now, then = measured(RunRecord.load(path)), measured(steady())
            assert then.items() <= now.items(), f"record {i} passes without what it had"


def test_damaged_baselines_are_refused_or_say_what_differs(gate):
    rng, (_, path) = random.Random(2), gate
    whole = path.read_bytes()
    for i in range(BASELINES):
        path.write_bytes(broken(whole, rng))
        said(invoke("check", "run", "--baseline", "base.toml"), f"baseline {i}")


@pytest.mark.parametrize(
    ("count", "name", "save"),
    [
        (PICTURES, "a.png", lambda path: Image.fromarray(noise()[0]).save(path)),
        (ARCHIVES // 2, "a.npz", lambda path: np.savez(path, noise())),
        (ARCHIVES // 2, "a.npz", lambda path: np.savez_compressed(path, noise(), mu=np.zeros(4), sigma=np.eye(4))),
    ],
)
def test_damaged_images_are_read_as_they_were_or_refused(tmp_path, count: int, name: str, save: Callable[[Path], None]):
    rng, path = random.Random(3), tmp_path / name
    save(path)
    whole, where = path.read_bytes(), path if name.endswith(".npz") else tmp_path
    expected = open_pictures(where, (3, 16, 16), "setting").part(0)
    for i in range(count):
        path.write_bytes(broken(whole, rng))
        try:
            found = open_pictures(where, (3, 16, 16), "setting").part(0)
            with readable(path):
                read_statistics(path, {"pool": 4}) if name.endswith(".npz") else None
        except UserError as error:
            assert name in error.message or "png" in error.message
        else:
            assert found.shape == expected.shape and bool((found == expected).all()), f"{name} {i} reads as something else"


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
