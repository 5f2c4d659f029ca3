"""Libraries that quantize whole networks are rows: same noise and samples, a ledger of what they made, one sentence where they
are not installed."""

import json

import pytest
from click.testing import CliRunner
from e2ekit import write_recipe

import ptqbench
from ptqbench.cli import cli
from ptqbench.kit.scaffold import plugin_files
from ptqbench.recipe.load import load_experiment
from ptqbench.running import bridge

ABSENT = '''"""A library that nobody has."""

from ptqbench import Component, hookimpl
from ptqbench.roles.network import NetworkQuantizer


class Absent(NetworkQuantizer):
    packages, extra = ("nowhere-to-be-found",), "nowhere"

    def quantize(self, denoiser, bits, calibration):
        raise AssertionError("it is not there")


@hookimpl
def ptqbench_components():
    return [Component("network-quantizer", "absent", "is not installed", Absent)]
'''

METHODS = """
[methods.mine]
network = { use = "mine", skip = ["last"] }
[methods.fed]
network = { use = "fed", skip = ["last"] }
[methods.absent]
network = "absent"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bridge")
    mine = plugin_files("mine", "network-quantizer", single=True)["mine.py"]
    (folder / "mine.py").write_text(mine)
    fed = (
        mine.replace("Mine", "Fed")
        .replace('"mine"', '"fed"')
        .replace("        top, ", "        calibration.feed(denoiser)\n        top, ")
    )
    (folder / "fed.py").write_text(fed)
    (folder / "absent.py").write_text(ABSENT)
    recipe = write_recipe(folder, folder / "mine.py", folder / "fed.py", folder / "absent.py", more=METHODS)
    only = ["nearest/W4A32", "mine/W4A32", "fed/W4A32", "absent/W4A32"]
    words = ["run", recipe, "--set", 'sweep.bits=["W4A32"]', "--set", 'recipe.baseline="nearest"', "--workers", "1"]
    words += [word for cell in only for word in ("--only", cell)] + ["--cache", folder / "cache", "--device", "cpu"]
    done = CliRunner().invoke(cli, [*map(str, words), "--out", str(folder / "run")])
    assert done.exit_code in (0, 5), done.output
    again = CliRunner().invoke(cli, [*map(str, words), "--out", str(folder / "again"), "--set", 'evaluation.metrics=["psnr"]'])
    assert again.exit_code in (0, 5), again.output
    return folder, done.output


def test_a_library_is_a_row_with_a_ledger_of_what_it_made(place):
    folder, _ = place
    run = ptqbench.Run.load(folder / "run")
    cell = next(c for c in run.record.cells if c.method == "mine")
    assert cell.status == "ok" and cell.execution == "simulated"
    assert 0 < cell.metrics["eps-error"].value < 1
    by_name = {row["name"]: row for row in cell.ledger if "site" not in row}
    assert by_name["first"]["weight"]["bits"] == 4 and by_name["first"]["activation"] is None
    # 8 x 1 x 3 x 3 weights at four bits, and a scale for each output channel
    assert by_name["first"]["weight_bytes"] == 36 + 4 * 8
    assert by_name["last"]["weight"] is None and "mine left it in floating point" in by_name["last"]["why"]
    assert cell.weight_bytes < cell.full_precision_bytes


def test_samples_and_evaluations_count_if_a_library_asked_for_them_however_often_it_runs(place):
    folder, _ = place
    for run in ("run", "again"):
        spent = {cell.method: cell.budget for cell in ptqbench.Run.load(folder / run).record.cells}
        assert (spent["mine"].training, spent["mine"].denoiser_evaluations) == (0, 0)
        # Eight trajectories of five steps, and 40 samples shown once.
        assert (spent["fed"].training, spent["fed"].denoiser_evaluations) == (40, 8 * 5 + 40)


def test_a_library_that_is_not_installed_costs_its_row_a_sentence_with_the_extra(place):
    folder, output = place
    reason = ptqbench.Run.load(folder / "run").failed["absent/W4A32/seed0"]
    assert "nowhere-to-be-found is not installed" in reason and 'pip install "ptqbench[nowhere]"' in reason
    assert "nowhere-to-be-found is not installed" in output


def test_what_a_library_made_is_not_exported_as_if_it_were_ours(place):
    folder, _ = place
    words = ["export", folder / "run", "--cell", "mine/W4A32/seed0", "--to", folder / "to", "--cache", folder / "cache"]
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 2 and "was quantized by mine as a whole" in done.output


def test_the_library_and_its_version_are_in_the_key_and_methods_without_one_keep_theirs(place, monkeypatch):
    folder, _ = place
    made = load_experiment(folder / "toy.toml")
    methods = {cell.name: cell.method for cell in made.cells if cell.method}
    assert "network" not in methods["nearest"].key and bridge.versions_key(methods["nearest"]) == []
    assert "network" in json.dumps(methods["mine"].key)
    assert bridge.versions_key(methods["mine"]) == [{}] and bridge.versions_key(methods["absent"]) == ["not installed"]
    monkeypatch.setattr(bridge.importlib.metadata, "version", lambda name: "7.5")
    assert bridge.versions_key(methods["absent"]) == [{"nowhere-to-be-found": "7.5"}]
