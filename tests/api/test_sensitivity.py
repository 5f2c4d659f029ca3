"""Which layers cost a cell most: shares of its error, against a network in which one layer is coarse by design."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from e2ekit import write_recipe

import ptqbench
from ptqbench.api.sensitivity import sensitivity
from ptqbench.cli import cli
from ptqbench.errors import UserError
from ptqbench.results.record import RunRecord
from ptqbench.results.report import tables_of

CELL = "nearest/W2A8/seed0"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sensitivity")
    words = ['sweep.bits=["W2A8"]', 'methods.nearest.passes=["first-last-8bit"]']
    ptqbench.run(write_recipe(folder), set=words, out=folder / "run", cache=folder / "cache", only=["nearest/W2A8"])
    return folder


def test_coarse_layers_cost_most_and_layers_in_eight_bits_next_to_nothing(place: Path) -> None:
    found = sensitivity(place / "run", CELL, trajectories=4, cache=place / "cache")
    ledger = RunRecord.load(place / "run").cells[-1].ledger
    bits = {row["name"]: row["weight"]["bits"] for row in ledger if "site" not in row}
    assert set(bits) <= set(found) and set(bits.values()) == {2, 8}
    assert bits[next(iter(found))] == 2
    assert [x.value for x in found.values()] == sorted((x.value for x in found.values()), reverse=True)
    assert all(x.low <= x.value <= x.high and x.n == 4 for x in found.values())
    assert next(iter(found.values())).value > 0.1
    assert all(abs(found[name].value) < 0.05 for name, width in bits.items() if width == 8)


def test_shares_become_part_of_the_record_and_of_reports(place: Path) -> None:
    words = ["sensitivity", str(place / "run"), "--cell", CELL, "--cache", str(place / "cache"), "--trajectories", "3"]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    record = RunRecord.load(place / "run")
    kept = record.cells[-1].sensitivity
    first = next(iter(kept))
    assert first in result.stdout and kept[first].n == 3
    assert f"{CELL}: which layers cost most" in [table.title for table in tables_of(record)]
    as_json = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
    assert list(as_json) == list(kept) and as_json[first]["value"] == kept[first].value


def test_more_trajectories_than_are_held_out_are_refused(place: Path) -> None:
    with pytest.raises(UserError, match="cannot be"):
        sensitivity(place / "run", CELL, trajectories=1000, cache=place / "cache")
