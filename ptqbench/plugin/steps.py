"""Numbers of sampling steps in options: no more than the recipe has, which is told with its other mistakes."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

STEPS = "steps"
"""What the recipe's number of sampling steps is called in the context of validation; without one, any number may be right."""


def _at_most(value: int, info: ValidationInfo) -> int:
    steps = (info.context or {}).get(STEPS)
    if steps is not None and value > steps:
        raise PydanticCustomError(
            "sampling_steps", "must be at most {steps}, as many as there are sampling steps", {STEPS: steps}
        )
    return value


StepCount = Annotated[int, Field(ge=1), AfterValidator(_at_most)]
"""How many of the sampling steps: at least 1. An option's default is not looked at."""
