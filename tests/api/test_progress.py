"""Progress in a log: what is done of all, what is left, and a line a minute."""

from __future__ import annotations

import pytest

from ptqbench.api.progress import Progress
from ptqbench.running.tasks import Task


def test_a_log_says_what_is_done_and_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    progress = Progress(lambda: now[0])
    cells = [Task("cell", i, 0, f"m/W4A8/seed{i}") for i in range(4)]
    progress.announce([Task("probe", label="held-out trajectories"), *cells])
    progress.report(cells[0], "unit 1/9", 0.1)
    now[0] = 59.0
    progress.report(cells[0], "unit 5/9", 0.5)
    now[0] = 61.0
    progress.report(cells[0], "unit 6/9", 0.6)
    progress.report(cells[0], "unit 7/9", 0.7)
    now[0] = 100.0
    progress.report(cells[0], "", 1.0)
    assert capsys.readouterr().err.splitlines() == [
        "0 of 4 cells: now m/W4A8/seed0, unit 6/9",
        "m/W4A8/seed0: done in 100.0 s (1 of 4 cells, about 5 min left)",
    ]
