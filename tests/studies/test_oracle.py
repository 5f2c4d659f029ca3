"""The oracle of fixed weights: the search on functions whose minimum is known, its verdict, the command on the toy model."""

import json
import math

import pytest
from click.testing import CliRunner

from ptqbench.cli import cli
from ptqbench.studies.oracle import Trial, Verdict, search


def bowl(wanted):
    """An error with its minimum, 1, at these weights, which a common factor does not change."""

    def error(weights):
        shift = [math.log(w / v) for w, v in zip(weights, wanted, strict=True)]
        mean = sum(shift) / len(shift)
        return 1 + sum((s - mean) ** 2 for s in shift)

    return error


def test_the_search_finds_the_minimum_and_keeps_to_its_budget():
    wanted = (4.0, 1.0, 0.5)
    trials = search(bowl(wanted), 3, 80)
    assert len(trials) <= 80
    assert len({trial.weights for trial in trials}) == len(trials)
    best = min(trials, key=lambda trial: trial.error)
    assert best.error < 1.01
    assert best.weights[0] / best.weights[2] == pytest.approx(8, rel=0.15)
    assert len(search(bowl(wanted), 3, 5)) == 5


def test_where_equal_weights_are_best_nothing_else_is_claimed():
    trials = search(bowl((1.0, 1.0)), 2, 12)
    assert min(trials, key=lambda trial: trial.error) == trials[0]
    assert "beat equal" in Verdict("m", "W4A32", "latent-error", trials, [1.0, 1.1], [1.0, 1.1]).sentence


@pytest.mark.parametrize(
    ("equal", "found", "gain", "words"),
    [
        ([10.0, 12.0], [8.0, 10.0], 2 / 11, "-18.2 %, more than its ± 0.0 %"),
        ([10.0, 10.0], [8.0, 12.0], 0.0, "within its ± 254.1 %: none of the weightings"),
        ([10.0], [9.0], 0.1, "one seed cannot say"),
    ],
)
def test_the_verdict_is_held_out_and_paired(equal, found, gain, words):
    trials = [Trial((1.0, 1.0), 10.0), Trial((2.0, 0.5), 5.0)]
    verdict = Verdict("m", "W4A32", "latent-error", trials, equal, found)
    assert verdict.gain == pytest.approx(gain)
    assert words in verdict.sentence


def run(path, *words):
    given = ["study", "oracle", str(path), "--method", "qdiffusion", "--bits", "W4A32", "--metric", "eps-error"]
    return CliRunner().invoke(cli, [*given, "--groups", "2", "--cache", str(path.parent / "cache"), *words])


def test_the_command_on_the_toy_model(path):
    words = ("--fits", "3", "--tuning", "1", "--held-out", "2", "--held-out", "3", "--json")
    found = run(path, *words)
    assert found.exit_code == 0, found.output
    data = json.loads(found.stdout)
    assert [trial["weights"] for trial in data["trials"]][:2] == [[1.0, 1.0], [2.0, 0.5]]
    errors = [trial["error"] for trial in data["trials"]]
    assert len(set(errors)) == 3
    assert len(data["equal"]) == len(data["found"]) == 2
    assert data["equal"][0] != errors[0]
    again = json.loads(run(path, *words).stdout)
    assert again == data


def test_mistakes_are_told_before_anything_is_fitted(path):
    both = run(path, "--tuning", "1", "--held-out", "1")
    assert both.exit_code == 2 and "seed 1 is both" in both.output
    none = CliRunner().invoke(cli, ["study", "oracle", str(path), "--method", "gacq", "--bits", "W4A32"])
    assert none.exit_code == 2 and "no method 'gacq'" in none.output
