"""The studies hold what they promise, at a size that tests can afford."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ptqbench.cli import cli
from ptqbench.studies import aa, ab
from ptqbench.studies.setting import METRICS, Setting


def test_identical_methods_are_rarely_declared_different() -> None:
    found = aa.study(Setting(images=128), methods=2, trials=100, seed=0)
    assert [x.metric for x in found] == list(METRICS)
    for x in found:
        assert (x.trials, x.comparisons) == (100, 2)
        assert x.declared <= 0.05
        assert x.covered >= 0.94


def test_more_images_and_pairing_show_smaller_effects() -> None:
    found = {(x.metric, x.images, x.test): x for x in ab.study(Setting(), (128, 384), trials=12, seed=0)}
    for metric in METRICS:
        few, many = (found[metric, n, "paired"].seen for n in (128, 384))
        assert few is not None and many is not None
        assert many < 0.75 * few
        for n in (128, 384):
            paired, unpaired = found[metric, n, "paired"], found[metric, n, "unpaired"]
            assert paired.seen is not None
            assert unpaired.seen is None or paired.seen < 0.85 * unpaired.seen
            assert paired.predicted == pytest.approx(paired.seen, rel=0.4)
            assert paired.power[0] <= 0.15


@pytest.mark.parametrize("command", [("aa", "--trials", "5"), ("ab", "--trials", "2", "--images", "40")])
def test_commands_are_deterministic(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = CliRunner().invoke
    first, second = (run(cli, ["study", *command, "--seed", "3", "--json"]) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)["results"]
    assert run(cli, ["study", *command, "--seed", "4", "--json"]).stdout != first.stdout
    table = run(cli, ["study", *command]).stdout
    assert table.startswith("A/")
    assert max(map(len, table.splitlines())) <= 80
