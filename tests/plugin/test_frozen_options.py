"""Options cannot be changed, nor can what lies in them; a copy can."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import Field

from ptqbench import Options


class Nested(Options):
    names: list[str] = Field(["a"])
    table: dict[str, Any] = Field({"inner": [1, {"deep": [2]}]})
    kinds: set[str] = Field({"x"})
    pair: tuple[list[int], ...] = ([1],)
    factor: float = 1.0


def delete(mapping, key):
    del mapping[key]


CHANGES = {
    "a field": lambda o: setattr(o, "factor", 2.0),
    "an item": lambda o: o.names.__setitem__(0, "b"),
    "one more": lambda o: o.names.append("b"),
    "more": lambda o: o.names.__iadd__(["b"]),
    "order": lambda o: o.names.sort(),
    "a key": lambda o: o.table.__setitem__("x", 1),
    "an update": lambda o: o.table.update(x=1),
    "less": lambda o: delete(o.table, "inner"),
    "within": lambda o: o.table["inner"][1]["deep"].append(3),
    "a member": lambda o: o.kinds.add("y"),
    "in a tuple": lambda o: o.pair[0].append(2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("given", [{}, {"names": ["a"], "table": {"inner": [1, {"deep": [2]}]}, "pair": ([1],)}])
def test_nothing_in_options_can_be_changed(change, given):
    options = Nested(**given)
    with pytest.raises(TypeError, match="options of a component cannot be changed"):
        change(options)
    assert options == Nested()


def test_copies_are_free():
    options = Nested()
    assert {*options.kinds, "y"} == options.kinds | {"y"} == {"x", "y"}
    for copied in (copy.deepcopy(options.table), copy.copy(options.table), dict(options.table)):
        copied["more"] = 1
    assert [*options.names, "b"] == options.names + ["b"] == ["a", "b"]  # noqa: RUF005
    assert options.model_dump(mode="json") == {
        "names": ["a"],
        "table": {"inner": [1, {"deep": [2]}]},
        "kinds": ["x"],
        "pair": [[1]],
        "factor": 1.0,
    }
