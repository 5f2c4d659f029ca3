"""Who does the work of a run, as a name or as a table."""

from __future__ import annotations

import pytest
from fakes import recipe

from ptqbench.api.settings import executor_for
from ptqbench.errors import UserError
from ptqbench.recipe.load import load_experiment


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("nobody", 'there is no executor called "nobody"'),
        ({"use": "local", "address": "auto"}, 'executor.address: unknown option of the executor "local"\n     it has none'),
        ({"use": "ray", "gpus": 0}, "executor.gpus: must be greater than 0.0, not 0"),
        ({"address": "auto"}, "does not say which"),
    ],
)
def test_an_executor_that_cannot_be_had_is_told_with_what_can(chosen, said):
    raw = recipe() | {"methods": {"plain": {"method": "brecq"}}}
    with pytest.raises(UserError) as caught:
        executor_for(load_experiment(raw), chosen)
    assert said in str(caught.value)
