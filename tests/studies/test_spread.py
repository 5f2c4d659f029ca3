"""Sources of the spread over calibration seeds: the arithmetic on known values, the command on the toy model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from enginekit import recipe

from ptqbench.cli import cli
from ptqbench.recipe.toml_text import value_text
from ptqbench.studies.spread import CHANGES, SEEDS, Arm, Sources


def test_the_interval_holds_the_true_spread_as_often_as_it_says():
    rng = np.random.default_rng(0)
    arms = [Arm("", list(10 + rng.normal(size=5))) for _ in range(2000)]
    held = [low <= 0.1 <= high for low, high in (arm.interval for arm in arms)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_the_sentence_divides_variances():
    values = {change: [10.0, 10.0 + size] for change, size in zip(CHANGES, (1.0, 1.5, 0.5, 2.0), strict=True)}
    told = Sources("m", "W4A32", "latent-error", [Arm(change, found) for change, found in values.items()]).sentence
    shares = [(size * (10 + 2.0 / 2) / (10 + size / 2) / 2.0) ** 2 for size in (1.0, 1.5, 0.5)]
    for share in shares:
        assert f"{100 * share:.0f} % with other" in told


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    data = recipe()
    data["methods"] = {"qdiffusion": data["methods"]["qdiffusion"]}
    data["sweep"]["bits"] = ["W4A32"]
    path = tmp_path_factory.mktemp("spread") / "toy.toml"
    path.write_text("\n".join(f"{key} = {value_text(value)}" for key, value in data.items()))
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
