"""pydantic's findings in a recipe's words, where options check themselves."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError, field_validator, model_validator

from ptqbench.plugin.component import Options
from ptqbench.recipe.words import problems_of


class SelfChecking(Options):
    low: int = Field(0, description="the least")
    high: int = 1

    @field_validator("high")
    @classmethod
    def _even(cls, value: int) -> int:
        if value == 7:
            raise ValueError("seven is taken")
        return value

    @model_validator(mode="after")
    def _order(self) -> SelfChecking:
        if self.low > self.high:
            raise ValueError("low must not exceed high")
        return self


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('{"high": 7}', ("x", "high"), "is not accepted (seven is taken), not 7"),
        ('{"low": 3, "high": 2}', ("x",), "is not accepted (low must not exceed high)"),
    ],
)
def test_what_a_validator_refuses(text, place, message):
    with pytest.raises(ValidationError) as caught:
        SelfChecking.model_validate_json(text)
    (problem,) = problems_of(caught.value, SelfChecking, ("x",))
    assert (problem.path, problem.message) == (place, message)
