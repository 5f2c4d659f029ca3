"""The order of tasks: dependencies, the longest way to the end, what is sure to fail; and what of it is done together."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginekit import context, experiment

from ptqbench.roles.executor import Crew, Ended, Task, Workers
from ptqbench.running import executor as running
from ptqbench.running import tasks
from ptqbench.running.agenda import Agenda
from ptqbench.running.forecast import Forecast
from ptqbench.running.tasks import Shard, cell_tasks, perform, run_tasks
from ptqbench.stage import memory
from ptqbench.stage.context import RunContext, Settings


def task(name: str, seconds: float = 0.0, *after: Task, first: bool = False) -> Task:
    return Task(name, label=name, seconds=seconds, after=frozenset(t.name for t in after), first=first)


def taken(agenda: Agenda) -> list[str]:
    """The order in which one process does everything."""
    found = []
    while (one := agenda.take()) is not None:
        found.append(one.kind)
        agenda.end(one)
    return found


def test_the_longest_way_to_the_end_comes_first_and_doomed_tasks_before_all() -> None:
    short, long = task("short", 5.0), task("long", 1.0)
    after = task("after", 9.0, long)
    assert taken(Agenda([short, after, task("doomed", first=True), long])) == ["doomed", "long", "after", "short"]


def test_a_task_waits_for_what_is_in_work_and_goes_first_if_that_failed() -> None:
    fit, other = task("fit", 3.0), task("other", 2.0)
    agenda = Agenda([fit, task("cell", 0.0, fit), other])
    assert (agenda.take(), agenda.take(), agenda.take()) == (fit, other, None)
    agenda = Agenda([fit, task("cell", 0.0, fit), other])
    assert agenda.take() == fit
    agenda.end(fit, failed=True)
    assert taken(agenda) == ["cell", "other"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """Two methods with weights of 4 bits alone, and with activations of 8."""
    made = experiment('sweep.bits=["W4A32", "W4A8"]', "model.network=plain", methods=("nearest", "qdiffusion"))
    return context(tmp_path_factory.mktemp("pair"), made)


def test_cells_that_share_fits_wait_for_one_task_that_does_them(pair: RunContext) -> None:
    found = {task.name: task for task in run_tasks(pair, cell_tasks(pair), (), tasks.pending(pair), None)}
    cells = {task.label: task for task in found.values() if task.kind == "cell"}
    fits = [task for task in found.values() if task.kind == "fit"]
    assert [fit.label for fit in fits] == [
        "nearest/W4A32/seed0, weight ranges",
        "qdiffusion/W4A32/seed0, reconstruct rounding",
    ]
    for bits in ("W4A32", "W4A8"):
        assert fits[1].name in cells[f"qdiffusion/{bits}/seed0"].after
    (drawn,) = (task for task in found.values() if task.kind == "calibration" and task.name in fits[1].after)
    assert drawn.after == {"trajectories/0/0/0"}
    assert all(name in found for task in found.values() for name in task.after)
    # Full precision waits for its images, and not for anything that is fitted.
    assert {name.partition("/")[0] for name in cells["full-precision"].after} == {"images", "probe", "features"}


def test_weights_alone_are_one_task_for_all_seeds_and_samples_one_for_each(pair: RunContext) -> None:
    made = experiment("sweep.seeds=[0, 1]", "model.network=plain", methods=("qdiffusion",))
    ctx = context(pair.cache.root, made)
    found = {task.name: task for task in run_tasks(ctx, cell_tasks(ctx), (), tasks.pending(ctx), None)}
    assert [(name, len(task.after)) for name, task in found.items() if task.kind == "fit"] == [("fit/1/0/1", 0)]
    for index, seed in ((1, 0), (2, 1)):
        assert found[f"cell/{index}/{seed}/0"].after >= {"fit/1/0/1", f"calibration/{index}/{seed}/0"}
        assert found[f"calibration/{index}/{seed}/0"].after == {f"trajectories/0/{seed}/0"}


def test_the_shared_fit_leaves_to_the_cells_what_is_their_own(pair: RunContext) -> None:
    found = run_tasks(pair, cell_tasks(pair), (), tasks.pending(pair), None)
    fit = next(task for task in found if task.kind == "fit" and "qdiffusion" in task.label)
    assert perform(pair, fit, lambda *_: None) is None
    stages = {path.parent.name for path in pair.cache.root.glob("*/*")}
    assert "reconstruct-rounding" in stages and not {"activation-ranges", "noise-error"} & stages


def test_images_that_take_long_are_drawn_in_parts(pair: RunContext) -> None:
    ids = [cell.id for cell in pair.experiment.cells]
    forecast = Forecast(dict.fromkeys(ids, 200.0), 1.0, 1.0, 1.0, images=dict.fromkeys(ids, 130.0))
    found = run_tasks(pair, cell_tasks(pair), (), tasks.pending(pair), forecast)
    parts = [task for task in found if task.kind == "sample" and task.index == 1]
    assert [(part.part, part.count, part.seconds) for part in parts] == [(0, 1, 65.0), (1, 1, 65.0)]
    cell = next(task for task in found if task.kind == "cell" and task.index == 1)
    assert cell.after >= {part.name for part in parts}
    assert {part.after for part in parts} == {frozenset({"fit/1/0/0"})}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_have_every_cell_once_and_fits_of_several_bits_together(pair: RunContext, count: int) -> None:
    shards = [Shard(i, count).cells(pair) for i in range(count)]
    assert sorted(task.index for shard in shards for task in shard) == list(range(5))
    if count < 4:
        homes = [{task.label for task in shard if "qdiffusion" in task.label} for shard in shards]
        assert sorted(map(len, homes)) == [0] * (count - 1) + [2]


class Dying(Workers):
    """Workers, of which those that take `fragile` tasks die so often; every end comes after so many `moments` without one."""

    def __init__(self, fragile: dict[str, int], *, crowded: bool, slots: int = 2, moments: int = 0) -> None:
        self.fragile, self.crowded, self.working, self.beside = fragile, crowded, list[Task](), dict[str, list[int]]()
        self.most, self.moments, self.waited = slots, moments, 0

    @property
    def slots(self) -> int:
        return self.most

    def __enter__(self) -> Dying:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def open(self, _: Crew) -> Dying:
        return self

    def submit(self, task: Task) -> None:
        self.beside.setdefault(task.kind, []).append(len(self.working))
        for other in self.working:
            self.beside[other.kind][-1] += 1
        self.working.append(task)

    def wait(self) -> list[Ended]:
        self.waited += 1
        if self.waited % (self.moments + 1):
            return []
        task = self.working.pop(0)
        self.fragile[task.kind] = self.fragile.get(task.kind, 0) - 1
        return [Ended(task, lost="died", crowded=self.crowded) if self.fragile[task.kind] >= 0 else Ended(task, task.kind)]


def outcome(workers: Dying) -> dict[str, object]:
    made = [task(name) for name in ("a", "b", "c", "d")]
    reports: list[str] = []
    crew = Crew(lambda: lambda *_: None, lambda *_: None, 2, 1, 0.0, False, "", lambda task, what, _: reports.append(what))
    found = {task.kind: result for task, result in running.execute(workers, crew, made)}  # type: ignore[arg-type]
    assert reports.count("failed") == sum(isinstance(result, Ended) for result in found.values())
    return found


@pytest.mark.parametrize(("slots", "moments"), [(2, 0), (3, 2)])
def test_what_died_of_want_of_memory_is_tried_alone_once_and_then_told(slots: int, moments: int) -> None:
    """Alone until it ends: workers may come back with nothing ended, when a task has told its progress."""
    workers = Dying({"a": 1, "c": 9}, crowded=True, slots=slots, moments=moments)
    found = outcome(workers)
    assert {name for name, result in found.items() if isinstance(result, Ended)} == {"c"}
    assert len(found) == 4
    assert workers.beside["a"][1:] == [0] and workers.beside["c"][1:] == [0], "the second try has nothing beside it"


def test_what_died_otherwise_is_tried_three_times() -> None:
    workers = Dying({"b": 2, "d": 3}, crowded=False)
    assert {name for name, result in outcome(workers).items() if isinstance(result, Ended)} == {"d"}
    assert (len(workers.beside["b"]), len(workers.beside["d"])) == (3, 3)


def test_processes_are_as_many_as_memory_has_room_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(tmp_path, "cpu", 4, 1)
    for free, room in ((None, 4), (9000.0, 4), (2500.0, 2), (10.0, 1)):
        monkeypatch.setattr(running, "free_memory_mib", lambda free=free: free)
        assert running.with_room(settings, 1000.0) == room


def test_the_memory_of_a_group_of_processes_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = memory.free_memory_mib()
    assert whole is not None and whole > 100
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    for name, text in {"max": "104857600", "current": "73400320", "stat": "file 9\ninactive_file 10485760\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_memory_mib() == 40.0
