"""Sources of the spread over calibration seeds: the arithmetic on known values, the command on the toy model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from ptqbench.cli import cli
from ptqbench.studies.spread import CHANGES, LAST_BITS, SEEDS, Arm, Sources


def test_the_interval_holds_the_true_spread_as_often_as_it_says():
    rng = np.random.default_rng(0)
    arms = [Arm("", list(10 + rng.normal(size=5))) for _ in range(2000)]
    held = [low <= 0.1 <= high for low, high in (arm.interval for arm in arms)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def sources(seeds: list[float], bits: list[float]) -> Sources:
    values = {change: bits if change == LAST_BITS else seeds for change in CHANGES}
    return Sources("m", "W4A32", "latent-error", [Arm(change, found) for change, found in values.items()])


def test_the_sentence_holds_seeds_against_last_bits():
    wide, narrow = [10.0, 14.0, 6.0, 12.0], [10.0, 10.4, 9.6, 10.2]
    assert "Seeds spread latent-error by 32.5 %, last bits alone by 3.4 %: samples or draws" in sources(wide, narrow).sentence
    assert "no more than chance" in sources(wide, wide).sentence
    assert "no more than chance" in sources(narrow, wide).sentence


def test_seeds_without_an_effect_of_their_own_are_told_apart_in_five_of_a_hundred():
    rng = np.random.default_rng(1)
    drawn = (list(10 + rng.normal(size=4)) for _ in range(2000))
    told = [sources(seeds, bits).sentence for seeds, bits in zip(drawn, drawn, strict=False)]
    assert np.mean(["part of their own" in words for words in told]) == pytest.approx(0.05, abs=0.02)


@pytest.fixture(scope="module")
def command(path):
    given = ["study", "spread", str(path), "--method", "qdiffusion", "--bits", "W4A32", "--metric", "eps-error"]
    return lambda *words: CliRunner().invoke(cli, [*given, "--cache", str(path.parent / "cache"), *words])


def test_the_command_on_the_toy_model(command):
    words = ("--seed", "1", "--seed", "2", "--seed", "3")
    found = command(*words, "--json")
    assert found.exit_code == 0, found.output
    arms = {arm["change"]: arm["values"] for arm in json.loads(found.stdout)["arms"]}
    assert list(arms) == list(CHANGES)
    assert len({values[0] for values in arms.values()}) == 1
    # The toy's fits have few iterations: last bits stay small, and both changes differ from each alone.
    assert max(arms["last bits"]) == pytest.approx(min(arms["last bits"]), rel=1e-3)
    changed = [values[1] for values in arms.values()]
    assert len({f"{value:.4g}" for value in changed}) == 4
    assert len(set(arms[SEEDS])) == 3
    assert "Sources of the spread" in command(*words).output


@pytest.mark.parametrize(
    ("words", "told"), [(("--seed", "1", "--seed", "2"), "three"), (("--method", "none"), "no method 'none'")]
)
def test_what_cannot_be_is_refused(command, words, told):
    found = command(*words)
    assert found.exit_code == 2
    assert told in found.output
