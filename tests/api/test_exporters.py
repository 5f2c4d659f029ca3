"""Exporters are plugins: found by name, held to what they promise, and their sentences are told."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from e2ekit import write_recipe

import ptqbench
from ptqbench.cli import cli
from ptqbench.errors import EXIT_PLUGIN, EXIT_USAGE

FILE = '''"""An exporter of its own file."""

from ptqbench import Component, hookimpl
from ptqbench.roles.exporter import Exporter


class Own(Exporter):
    """Writes what it is asked to check itself on."""

    def write(self, cell, folder):
        {body}


@hookimpl
def ptqbench_components():
    return [Component("exporter", "own", "writes", Own)]
'''
WRITES = """rows = cell.held_out
        assert cell.simulated(rows).shape[0] == len(rows.t) == len(rows.step) == len(rows)
        assert not cell.simulated(rows).equal(cell.in_full_precision(rows))
        (folder / "steps").write_text(",".join(map(str, rows.step.tolist())))
        return ["every step is there"]"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exporters")
    ptqbench.run(write_recipe(folder), out=folder / "run", cache=folder / "cache", device="cpu", only=["nearest/W4A8"])
    return folder


def export(place, to, form: str, body: str = ""):
    plugin = to.parent / "own.py"
    plugin.write_text(FILE.format(body=body or "return []"))
    words = ["export", place / "run", "--cell", "nearest/W4A8/seed0", "--to", to, "--cache", place / "cache"]
    return CliRunner().invoke(cli, [str(word) for word in [*words, "--format", form, "--plugin", plugin]])


def test_an_exporter_of_a_file_gets_the_cell_and_held_out_states(place, tmp_path):
    done = export(place, tmp_path / "to", "own", WRITES)
    assert done.exit_code == 0, done.output
    assert "every step is there" in done.stdout
    steps = (tmp_path / "to" / "steps").read_text().split(",")
    assert {int(s) for s in steps} == set(range(ptqbench.Run.load(place / "run").record.protocol["steps"]))


@pytest.mark.parametrize(("body", "words"), [("return []", "wrote no file"), ("return None", "return sentences")])
def test_an_exporter_that_leaves_nothing_is_blamed(place, tmp_path, body, words):
    done = export(place, tmp_path / "to", "own", body)
    assert done.exit_code == EXIT_PLUGIN
    assert words in done.output


def test_a_format_that_is_none_is_named_before_anything_is_computed(place, tmp_path):
    done = export(place, tmp_path / "to", "safetensor")
    assert done.exit_code == EXIT_USAGE
    assert 'did you mean "safetensors"' in done.output
    assert not (tmp_path / "to").exists()
