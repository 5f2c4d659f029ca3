"""Tables written as TOML read back as the same data."""

from __future__ import annotations

import json
import random
import tomllib

import pytest
from fakes import recipe

from ptqbench.recipe.toml_text import WIDTH, table_text

STRINGS = ["", "plain", 'quote " and \\', "line\nbreak\ttab", "\x00\x1f\x7f", "é ☃ 🂡", "#[]={}", "'''", "inf", "a.b"]
NUMBERS = [0, -7, 2**62, True, False, 0.1, 1e-05, 1e16, -2.5e300, 5e-324, 1.0]


def read(path: tuple[str, ...], text: str) -> dict:
    table = tomllib.loads(text)
    for key in path:
        table = table[key]
    return table


def anything(rng: random.Random, depth: int) -> object:
    kind = rng.randrange(4 if depth else 2)
    if kind == 0:
        return rng.choice(STRINGS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(6))]
    return table(rng, depth - 1)


def table(rng: random.Random, depth: int) -> dict:
    return {rng.choice(["a", "b-c", "d_1", *STRINGS]): anything(rng, depth) for _ in range(rng.randrange(6))}


def test_what_is_written_reads_back():
    for seed in range(300):
        rng = random.Random(seed)
        data = {"short": 1, **table(rng, 3)}
        path = tuple(rng.sample(["methods", "a b", "tfmq-dm", "x.y", "q+"], 2))
        # As JSON, where true, 1 and 1.0 differ.
        assert json.dumps(read(path, table_text(path, data)), sort_keys=True) == json.dumps(data, sort_keys=True), seed


def test_a_recipe_s_method_looks_as_people_write_it():
    plain = recipe()["methods"]["plain"]
    assert table_text(("methods", "plain"), plain) == (
        "[methods.plain]\n"
        'sampler = { use = "stride", points = 5 }\n'
        'reconstruction = { use = "brecq", iterations = 7 }\n'
        'weights = { quantizer = "adaround", range = "mse" }\n'
        'activations = { quantizer = "lsq" }\n'
        'passes = ["ends", "skip-split"]'
    )


def test_long_tables_become_sections_and_long_arrays_lines():
    long = {f"option_{i}": i / 7 for i in range(9)}
    data = {"sampler": "a", "weights": {"quantizer": {"use": "q", **long}, "bits": 4}, "passes": [long, "x" * 50]}
    text = table_text(("methods", "m"), data)
    assert read(("methods", "m"), text) == data
    assert "[methods.m.weights.quantizer]" in text
    assert all(len(line) <= WIDTH for line in text.splitlines() if "option_0 = 0.0, " not in line)


def test_what_toml_cannot_say_is_refused():
    with pytest.raises(TypeError, match="NoneType"):
        table_text(("a",), {"x": None})
