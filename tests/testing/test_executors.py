"""An executor is tried with two workers, one of whose processes ends, and must bring results back as they were."""

import pytest

from ptqbench.errors import PluginError
from ptqbench.testing import components
from ptqbench.testing.executors import executes
from ptqbench_executors import local

WRONG = """
import contextlib
from ptqbench import Component, hookimpl
from ptqbench.errors import UserError
from ptqbench.roles.executor import Ended, Executor, Workers


class Here(Workers):
    slots = 2

    def __init__(self, crew):
        self.crew, self.tasks = crew, []

    def submit(self, task):
        self.tasks.append(task)

    def wait(self):
        {wait}


class Wrong(Executor):
    @contextlib.contextmanager
    def open(self, crew):
        {open}
        yield Here(crew)


@hookimpl
def ptqbench_components():
    return [Component("executor", "wrong", "is wrong", Wrong)]
"""
DONE = "return [Ended(t, self.crew.here(t, lambda *_: None)) for t in [self.tasks.pop()]]"
ABSENT = "raise UserError('nothing is there', '')"


def tried(tmp_path, wait=DONE, open="pass"):
    path = tmp_path / "wrong.py"
    path.write_text(WRONG.format(wait=wait, open=open))
    (trial,) = components(path)
    executes(trial)


def test_one_that_is_right_or_cannot_be_opened_here_passes(tmp_path):
    tried(tmp_path)
    tried(tmp_path, open=ABSENT)


def test_an_error_is_no_excuse_once_it_is_open(tmp_path):
    with pytest.raises(PluginError, match="ended with UserError: nothing is there"):
        tried(tmp_path, wait=ABSENT)


def test_a_result_that_came_back_otherwise_is_a_fault(tmp_path):
    with pytest.raises(PluginError, match="gave"):
        tried(tmp_path, wait=DONE.replace("lambda *_: None)", "lambda *_: None) | {'third': round(t.index / 3, 6)}"))


def test_a_process_is_lost_on_the_way(monkeypatch):
    """The local executor's own way with one is the usual check; here it has none."""

    def lost(code):
        raise RuntimeError(f"code {code}")

    monkeypatch.setattr(local, "_death", lost)
    (trial,) = [one for one in components("ptqbench_executors") if one.bound.name == "local"]
    with pytest.raises(PluginError, match="ended with RuntimeError: code 3"):
        executes(trial)
