"""Progress in a log: what is done of all, what is left, and a line a minute."""

from __future__ import annotations

import pytest

from ptqbench.api.progress import Progress
from ptqbench.roles.executor import Task


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
    # Nothing was forecast, so nothing is said of what is left.
    assert capsys.readouterr().err.splitlines() == [
        "0 of 4 cells: now m/W4A8/seed0, unit 6/9",
        "m/W4A8/seed0: done in 100.0 s (1 of 4 cells)",
    ]


def forecast(*seconds: float, workers: int = 1) -> tuple[list[float], Progress, list[Task]]:
    """A clock, and progress of tasks that are forecast to take so long."""
    now = [0.0]
    progress = Progress(lambda: now[0], workers)
    tasks = [Task("cell", i, 0, f"m/W4A8/seed{i}", each) for i, each in enumerate(seconds)]
    progress.announce(tasks)
    return now, progress, tasks


def test_time_left_is_the_forecast_until_something_was_measured_and_then_goes_by_that() -> None:
    now, progress, tasks = forecast(100.0, 1000.0, 900.0)
    assert progress.left() == pytest.approx(2000.0)
    # The first task takes twice what was forecast, as all others do.
    now[0] = 200.0
    progress.report(tasks[0], "", 1.0)
    assert 1900.0 < progress.left() < 3800.0, "between the forecast and what was measured"
    now[0] = 1200.0
    progress.report(tasks[1], "unit 5/10", 0.5)
    assert progress.left() == pytest.approx(2 * 1400.0, rel=0.1)
    now[0] = 4000.0
    progress.report(tasks[1], "", 1.0)
    progress.report(tasks[2], "", 1.0)
    assert progress.left() == pytest.approx(0.0)


def test_cells_that_are_cheap_or_in_the_cache_do_not_stand_for_the_others() -> None:
    now, progress, tasks = forecast(0.0, 1.0, 1000.0)
    now[0] = 1.0
    progress.report(tasks[0], "", 1.0)
    progress.report(tasks[1], "", 1.0)
    assert progress.left() == pytest.approx(1000.0, rel=0.05), "2 of 3 cells are done, and next to nothing of the work"


def test_processes_that_share_the_work_are_counted() -> None:
    now, progress, tasks = forecast(100.0, 100.0, 100.0, 100.0, workers=2)
    assert progress.left() == pytest.approx(200.0)
    now[0] = 100.0
    progress.report(tasks[0], "", 1.0)
    progress.report(tasks[1], "", 1.0)
    assert progress.left() == pytest.approx(100.0)


def test_a_log_tells_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now, progress, tasks = forecast(100.0, 100.0, 100.0, 100.0)
    now[0] = 100.0
    progress.report(tasks[0], "", 1.0)
    assert "done in 0.0 s (1 of 4 cells, about 5 min left)" in capsys.readouterr().err
