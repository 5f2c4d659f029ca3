"""`run` from end to end: what it writes and prints, again from the cache, and with several processes."""

from __future__ import annotations

import json

import pytest
from e2ekit import LATE, REFUSING, call, inside, metrics, results, run_args, started, write_recipe
from enginekit import files
from fakes import entry_point_distribution
from PIL import Image

CELLS = ["full-precision", "nearest/W4A8/seed0", "late/W4A8/seed0", "gacq/W4A8/seed0", "third/W4A8/seed0"]


def test_a_run_succeeds_and_its_record_is_complete(finished):
    assert finished.process.returncode == 0, finished.process.stderr
    record = results(finished.folder)
    assert record["schema"] == 1
    assert [cell["id"] for cell in record["cells"]] == CELLS
    for cell in record["cells"]:
        assert {"method", "bits", "seed", "status", "metrics"} <= set(cell)
        assert cell["status"] == "ok"
        for number in cell["metrics"].values():
            assert number["low"] <= number["value"] <= number["high"]
            assert number["n"] in (4, 8)
    assert record["cells"][1]["metrics"].keys() == {"eps-error", "psnr@fp", "fd-toy@data", "fd-toy@fp"}
    assert record["protocol"]["calibration samples"] == 40


def test_tables_and_the_picture_are_written(finished):
    out = finished.folder / "out"
    table = (out / "table.md").read_text()
    for name in ("full-precision", "nearest", "late", "gacq", "third"):
        assert name in table
    with Image.open(out / "samples.png") as picture:
        assert picture.width > 8
    assert sorted(p.name for p in out.glob("[!.]*")) == ["results.json", "samples.png", "table.md"]


def test_stdout_is_the_record_alone_and_progress_is_on_stderr(finished):
    assert json.loads(finished.process.stdout) == results(finished.folder)
    assert "late/W4A8/seed0: done in" in finished.process.stderr
    assert "results.json" in finished.process.stderr
    for noise in ("Traceback", "FutureWarning", "UserWarning"):
        assert noise not in finished.process.stderr


def test_the_weighter_changes_the_result(finished):
    found = metrics(results(finished.folder))
    assert found["third/W4A8/seed0"] != found["late/W4A8/seed0"] != found["gacq/W4A8/seed0"]


def test_the_same_command_again_reads_the_cache_alone(finished):
    first, before = results(finished.folder), files(finished.folder / "cache")
    again = inside(*run_args(finished.recipe, finished.folder))
    assert again.returncode == 0, again.stderr
    assert files(finished.folder / "cache") == before
    second = results(finished.folder)
    assert metrics(second) == metrics(first)
    assert all(cost["cached"] for cell in second["cells"] for cost in cell["cost"].values())
    assert "gacq" in again.stdout
    assert "{" not in again.stdout


@pytest.fixture(scope="module")
def parallel(tmp_path_factory):
    """The same comparison on two processes, with the weighter from an installed distribution and a cell that fails."""
    folder = tmp_path_factory.mktemp("parallel")
    sources = {"late_plugin.py": LATE}
    site = entry_point_distribution(folder / "site", "ptqbench-late", {"late": "late_plugin"}, sources)
    third = '[methods.third]\nextends = "late"\nweighter = "late-steps"\n'
    recipe = write_recipe(folder, more=third + REFUSING)
    with started(*run_args(recipe, folder, workers=2), PYTHONPATH=str(site)) as process:
        done = process.ended()
    return folder, done


def test_two_processes_give_the_numbers_of_one(finished, parallel):
    folder, done = parallel
    found = metrics(results(folder))
    assert {name: found[name] for name in CELLS} == metrics(results(finished.folder)), done.stderr


def test_a_cell_that_fails_is_a_row_with_its_reason_and_the_exit_code_says_so(parallel):
    folder, done = parallel
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    cells = {cell["id"]: cell for cell in results(folder)["cells"]}
    failed = cells.pop("refusing/W4A8/seed0")
    assert (failed["status"], failed["metrics"]) == ("failed", {})
    assert failed["reason"] == "the toy weighter refuses\n  ask another"
    path = folder / "out" / "errors" / "refusing-W4A8-seed0.txt"
    assert f"refusing/W4A8/seed0 failed: the toy weighter refuses; traceback: {path}\n" in done.stderr
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert "in weights" in path.read_text()
    assert {cell["status"] for cell in cells.values()} == {"ok"}
    assert "the toy weighter refuses" in done.stdout
    assert "the toy weighter refuses" in (folder / "out" / "table.md").read_text()


def test_list_names_a_plugin_file_of_the_recipe(finished):
    listed = inside("list", "--recipe", finished.recipe, "--role", "weighter", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)["components"]}
    assert rows["late-steps"]["plugin"] == "late.py"
    assert rows["late-steps"]["distribution"] == str(finished.folder / "late.py")


def test_list_names_an_installed_distribution(parallel):
    listed = call("list", "--role", "weighter", "--json", PYTHONPATH=str(parallel[0] / "site"))
    rows = {row["name"]: row for row in json.loads(listed.stdout)["components"]}
    assert (rows["late-steps"]["plugin"], rows["late-steps"]["distribution"]) == ("late", "ptqbench-late")


def test_without_any_plugin_the_program_explains_itself(finished):
    listed = call("list", PTQBENCH_BLOCK="*")
    assert listed.returncode == 0
    assert listed.stdout.startswith("No components: every method, metric and model comes from a plugin")
    assert "PTQBENCH_BLOCK" in listed.stdout
    with started(*run_args(finished.recipe, finished.folder / "none"), PTQBENCH_BLOCK="*") as process:
        done = process.ended()
    assert done.returncode in (2, 3)
    assert "PTQBENCH_BLOCK" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
