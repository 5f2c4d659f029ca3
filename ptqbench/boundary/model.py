"""What a model source returns: a `DiffusionModel`, whose functions are calls into the plugin like the source's own."""

from __future__ import annotations

import copy
from typing import Any

from ptqbench.boundary.call import Call, wrapped
from ptqbench.roles.model import DiffusionModel

FUNCTIONS = ("call", "decode", "conditions")


def _load(call: Call, _: Any, found: Any, *args: Any) -> DiffusionModel:
    if not isinstance(found, DiffusionModel):
        raise call.refused(f"returned {type(found).__name__} from load()", "return a ptqbench.roles.model.DiffusionModel")
    model = copy.copy(found)
    for name in FUNCTIONS:
        setattr(model, name, wrapped(Call(call.owner, name), getattr(found, name)))
    return model


CHECKS = {"load": _load}
