"""results.json survives a round trip, and anything else is refused with a message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comparison_samples import one_seed

from ptqbench.errors import UserError
from ptqbench.results.record import Comparison, RunRecord


def test_round_trip() -> None:
    record = one_seed()
    again = RunRecord.from_json(record.to_json())
    assert again == record
    assert again.cells[1].metrics["eps-error"].detail["t"] == [950.0, 0.0]
    assert again.cells[1].cost["images"].cached


def test_load_takes_the_folder_or_the_file(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(one_seed().to_json(), encoding="utf-8")
    assert RunRecord.load(tmp_path) == RunRecord.load(tmp_path / "results.json") == one_seed()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a ptqbench result"),
        ("[]", "not a ptqbench result"),
        ('{"cells": []}', "not a ptqbench result"),
        ('{"schema": 99, "cells": []}', "schema 99"),
        (json.dumps({**json.loads(one_seed().to_json()), "surprise": 1}), "surprise"),
        (json.dumps({**json.loads(one_seed().to_json()), "cells": [{"id": "x"}]}), "not a ptqbench result"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        RunRecord.load(tmp_path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "null", '"1"', "true"])
def test_a_metric_that_is_no_number_is_refused(tmp_path: Path, word: str) -> None:
    data = json.loads(one_seed().to_json())
    data["cells"][1]["metrics"]["eps-error"]["value"] = "here"
    (tmp_path / "results.json").write_text(json.dumps(data).replace('"here"', word), encoding="utf-8")
    with pytest.raises(UserError, match=r"not a ptqbench result: .*(is no number|valid number)"):
        RunRecord.load(tmp_path)


def test_what_is_no_number_is_written_as_null() -> None:
    record = one_seed()
    record.comparisons = [Comparison("a", "W4A8", "", "psnr", "b", "better", detectable=float("inf"))]
    record.cells[1].metrics["eps-error"].detail["t"] = [float("nan"), 0.0]
    data = json.loads(record.to_json(), parse_constant=pytest.fail)
    assert data["comparisons"][0]["detectable"] is None
    assert data["cells"][1]["metrics"]["eps-error"]["detail"]["t"] == [None, 0.0]


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results at"):
        RunRecord.load(tmp_path / "nowhere")
