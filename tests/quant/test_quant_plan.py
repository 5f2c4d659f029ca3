"""Plans of attentions and their rows in the bit ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest
from quantkit import skip_net

from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.ledger import ATTENTION
from ptqbench.quant.plan import SITES, AttentionPlan, AttentionProbe, Plan, Probe


def probed() -> Probe:
    """A network's probe with two attentions and a softmax besides."""
    attentions = AttentionProbe("one", 300, 200), AttentionProbe("two", 50, 60, calls=3)
    return replace(skip_net()[2], attentions=attentions, softmaxes=("gate",))


def test_attention_gets_the_activations_grid_per_tensor() -> None:
    plan = Plan.uniform(probed(), QuantSpec(4, "channel"), QuantSpec(6, "channel", symmetric=True, steps=5))
    assert [attention.name for attention in plan.attentions] == ["one", "two"]
    for attention in plan.attentions:
        assert attention.q == attention.k == attention.v == QuantSpec(6, "tensor", symmetric=True, steps=5)
        assert attention.softmax == QuantSpec(6, "tensor", symmetric=False, steps=5, nonnegative=True)
        assert attention.why == ()


def test_without_activation_grids_attention_has_none() -> None:
    plan = Plan.uniform(probed(), QuantSpec(4, "channel"), None)
    assert {attention.spec(site) for attention in plan.attentions for site in SITES} == {None}


def test_a_nonnegative_grid_cannot_be_symmetric() -> None:
    with pytest.raises(ValueError, match="below zero"):
        QuantSpec(8, symmetric=True, nonnegative=True)


def test_changing_layers_keeps_attentions_and_the_other_way_round() -> None:
    plan = Plan.uniform(probed(), QuantSpec(4, "channel"), QuantSpec(8))
    wide = plan.with_layers([plan["down"].change("a test", weight=None)])
    assert wide.attentions == plan.attentions
    second = plan.attentions[1].change("a test", softmax=None)
    changed = wide.with_attentions([second])
    assert changed.layers == wide.layers
    assert changed.attentions == (plan.attentions[0], second)


def test_reasons_stand_at_the_sites_that_they_are_about() -> None:
    plan = AttentionPlan.uniform("one", QuantSpec(8)).change("wide", q=None, k=None).change("sharp", softmax=QuantSpec(16))
    assert (plan.q, plan.k, plan.v, plan.softmax) == (None, None, QuantSpec(8), QuantSpec(16))
    assert plan.why == (("q", "wide"), ("k", "wide"), ("softmax", "sharp"))


def test_the_ledger_has_a_row_for_each_site_and_each_softmax_besides() -> None:
    probe = probed()
    plan = Plan.uniform(probe, QuantSpec(4, "channel"), QuantSpec(8))
    plan = plan.with_attentions([plan.attentions[0].change("a test", v=QuantSpec(5))])
    rows = plan.ledger(probe)
    keys = {key for row in rows[: len(probe.layers)] for key in row}
    sites = rows[len(probe.layers) :]
    assert all(set(row) == keys | {"site"} and row["kind"] == ATTENTION and row["weight"] is None for row in sites)
    assert [(row["name"], row["site"], row["macs"]) for row in sites] == [
        ("one", "q", 300), ("one", "k", 300), ("one", "v", 200), ("one", "softmax", 200),
        ("two", "q", 50), ("two", "k", 50), ("two", "v", 60), ("two", "softmax", 60),
        ("gate", "unseen softmax", 0),
    ]  # fmt: skip
    assert [row["activation"] and row["activation"]["bits"] for row in sites] == [8, 8, 5, 8, 8, 8, 8, 8, None]
    assert [row["why"] for row in sites[:4]] == [[], [], ["a test"], []]
    assert all(row["why"] == ["shared by 3 calls"] for row in sites[4:8])
    assert "scaled_dot_product_attention" in sites[8]["why"][0]
