"""The passes `float-layers` and `layer-bits`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from quantkit import plan_for, skip_net

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import LayerPlan, Plan
from ptqbench_nearest import FloatLayersOptions, LayerBitsOptions
from ptqbench_nearest.named import FloatLayers, LayerBits


def float_layers(plan: Plan, *patterns: str, **options: Any) -> Plan:
    return FloatLayers(FloatLayersOptions(patterns=patterns, **options)).apply(plan, skip_net()[2])


def layer_bits(plan: Plan, *patterns: str, **options: Any) -> Plan:
    return LayerBits(LayerBitsOptions(patterns=patterns, **options)).apply(plan, skip_net()[2])


def changed(after: Plan, before: Plan) -> dict[str, LayerPlan]:
    return {new.name: new for new, old in zip(after.layers, before.layers, strict=True) if new != old}


@pytest.fixture
def plan() -> Plan:
    return plan_for(skip_net()[2], 4, 6)


def test_named_layers_stay_in_full_precision_and_say_why(plan: Plan) -> None:
    found = changed(float_layers(plan, "first", "sh*", "s*"), plan)
    assert {name: (layer.weight, layer.activation, layer.why) for name, layer in found.items()} == {
        "first": (None, None, ("float-layers: first",)),
        "shortcut": (None, None, ("float-layers: sh*",)),
    }


def test_a_pattern_is_about_the_whole_name_and_its_case(plan: Plan) -> None:
    assert set(changed(float_layers(plan, "?own", "[kt]*s", "irst", "First"), plan)) == {"down", "tokens"}


def test_bits_of_weights_inputs_or_both(plan: Plan) -> None:
    first = plan["first"]
    wide = layer_bits(plan, "first", weights=8)["first"]
    assert (wide.weight, wide.activation) == (replace(first.weight, bits=8), first.activation)
    assert wide.why == ("layer-bits: first",)
    both = layer_bits(plan, "first", weights=2, activations=16)["first"]
    assert (both.weight, both.activation) == (replace(first.weight, bits=2), replace(first.activation, bits=16))
    half = layer_bits(plan, "first", activations=32)["first"]
    assert (half.weight, half.activation) == (first.weight, None)


def test_full_precision_stays_and_what_is_equal_is_no_exception(plan: Plan) -> None:
    floating = float_layers(plan, "down")
    assert layer_bits(floating, "down", weights=8, activations=8) == floating
    assert float_layers(floating, "down") == floating
    assert layer_bits(plan, "*", weights=4, activations=6) == plan


def test_partitions_are_kept(plan: Plan) -> None:
    split = plan.with_layers([plan["shortcut"].change("skip-split", partitions=(8, 4))])
    found = layer_bits(split, "shortcut", weights=8)["shortcut"]
    assert (found.partitions, found.why) == ((8, 4), ("skip-split", "layer-bits: shortcut"))


def test_patterns_that_match_nothing_fail_unless_that_is_allowed(plan: Plan) -> None:
    with pytest.raises(CellFailedError, match=r"no layer is called conv_in or \*\.op"):
        float_layers(plan, "conv_in", "*.op")
    assert float_layers(plan, "conv_in", required=False) == plan
    assert set(changed(float_layers(plan, "conv_in", "last"), plan)) == {"last"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (FloatLayersOptions, "patterns"),
        (lambda: FloatLayersOptions(patterns=()), "patterns"),
        (lambda: LayerBitsOptions(patterns=("a",)), "would change nothing"),
        (lambda: LayerBitsOptions(patterns=("a",), weights=16), "weights"),
        (lambda: LayerBitsOptions(patterns=("a",), activations=12), "activations"),
    ],
)
def test_bad_options_are_refused(options: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        options()
