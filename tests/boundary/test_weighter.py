"""Weights: finite, detached, one for each sample, and a function of what the weighter was given."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from boundarykit import answering, make

from ptqbench.errors import PluginError
from ptqbench.roles.weighter import Batch, Requirements, SampleWeighter

PARAMS = {"w": torch.nn.Parameter(torch.ones(3))}
PROBLEM = SimpleNamespace(params=PARAMS)


def batch():
    return Batch(torch.arange(4), torch.arange(4), (torch.ones(4, 2),), {}, (torch.ones(4, 2),), seed=0)


def weigh(answer, times=1, **more):
    for _ in range(times):
        weighter = make("weighter", answering(SampleWeighter, weights=answer, **more))
        weighter.begin_unit("unit", "steps", PROBLEM, torch.Generator().manual_seed(0))
        found = weighter.weights(batch(), PROBLEM)
    return found


NAN = torch.tensor([1.0, float("nan"), 1.0, float("inf")])
WRONG = {
    "a list": ([1.0] * 4, "gave list as weights", "(4,)"),
    "another shape": (torch.ones(4, 1), "gave float32 (4, 1) as weights", "(4,)"),
    "one for all": (torch.tensor(1.0), "gave float32 () as weights", "(4,)"),
    "whole numbers": (torch.ones(4).int(), "gave int32 (4,) as weights", "floating-point"),
    "complex": (torch.ones(4) + 0j, "gave complex64 (4,) as weights", "floating-point"),
    "not finite": (NAN, "gave weights with 2 of 4 values that are not finite", "a division by zero"),
    "negative": (torch.tensor([1.0, -2.0, 1, 1]), "gave 1 of 4 weights below zero, the least -2", "zero or more"),
    "nothing counts": (torch.zeros(4), "gave weights that are all zero", "at least one sample"),
    "attached": (lambda self, b, p: p.params["w"].sum() * torch.ones(4), "attached to the graph", "detach()"),
    "writes into the target": (lambda self, b, p: b.target[0].mul_(2).sum(1), "wrote into batch.target", "clone()"),
    "writes into inputs": (lambda self, b, p: b.args[0].mul_(2).sum(1), "wrote into batch.args", "clone()"),
}


@pytest.mark.parametrize(("answer", "words", "remedy"), WRONG.values(), ids=WRONG)
def test_weights_that_cannot_be_used_are_refused(answer, words, remedy):
    with pytest.raises(PluginError) as caught:
        weigh(answer)
    assert caught.value.message.startswith('the weighter "trial" of plugin "trial.py" ')
    assert words in caught.value.message
    assert remedy in caught.value.hint


def test_a_weighter_that_writes_into_trainables_is_refused():
    @torch.no_grad()
    def writing(self, batch, problem):
        problem.params["w"].add_(1)
        return torch.ones(len(batch))

    with pytest.raises(PluginError, match=r"wrote into problem.params\['w'\]"):
        weigh(writing)


def test_weights_that_depend_on_what_ran_before_are_refused():
    calls = []

    def growing(self, batch, problem):
        calls.append(1)
        return torch.arange(1.0, 5.0) ** len(calls)

    def unseeded(self, batch, problem):
        return torch.rand(len(batch))

    def of_the_module(self, batch, problem):
        return torch.arange(1.0, 5.0) ** SHARED.setdefault("power", len(SHARED) + 1)

    for wrong in (growing, unseeded):
        with pytest.raises(PluginError, match="gave other weights when another instance was asked the same") as caught:
            weigh(wrong)
        assert "generator" in caught.value.hint
        with pytest.raises(PluginError):
            weigh(wrong)
    assert torch.equal(weigh(of_the_module, times=2), torch.arange(1.0, 5.0))


SHARED: dict[str, int] = {}


def test_weights_that_follow_the_generator_are_taken():
    def begin(self, unit, phase, problem, rng):
        self.rng = rng

    def seeded(self, batch, problem):
        return torch.rand(len(batch), generator=self.rng)

    found = weigh(seeded, begin_unit=begin)
    assert torch.equal(found, torch.rand(4, generator=torch.Generator().manual_seed(0)))


FACTORS = {
    "a tensor": (torch.ones(4), "returned float32 (4,) instead of factors by part"),
    "another shape": ({"output": torch.ones(3)}, "gave float32 (3,) as the factors of 'output'"),
    "not finite": ({"output": NAN}, "gave the factors of 'output' with 2 of 4 values that are not finite"),
    "attached": ({"output": PARAMS["w"].sum() * torch.ones(4)}, "attached to the graph"),
    "a float": ({"output": 1.0}, "returned 1.0 under 'output'"),
}


@pytest.mark.parametrize(("answer", "words"), FACTORS.values(), ids=FACTORS)
def test_factors_of_parts_are_looked_at_like_weights(answer, words):
    weighter = make("weighter", answering(SampleWeighter, part_weights=answer))
    with pytest.raises(PluginError) as caught:
        weighter.part_weights(batch(), PROBLEM)
    assert words in caught.value.message


def test_what_a_weighter_says_of_itself_is_looked_at_when_it_is_made():
    for changes, words in (
        ({"requires": 0.1}, "requires 0.1"),
        ({"requires": Requirements(validation=1.0)}, "requires Requirements"),
        ({"cost": 0}, "gave 0 as cost"),
        ({"cost": float("nan")}, "gave nan as cost"),
    ):
        with pytest.raises(PluginError, match=words):
            make("weighter", type("Trial", (answering(SampleWeighter),), changes))
