"""What the contract asks of every plugin; what this one promises beyond it belongs here as well."""

import pytest

from ptqbench.plugin.manager import PluginManager
from ptqbench.testing import Trial, check, components

SOURCE = "ptqbench_example"


@pytest.mark.parametrize("component", components(SOURCE), ids=str)
def test_conformance(component: Trial) -> None:
    check(component)


def test_it_is_listed_and_its_options_are_explained() -> None:
    found = PluginManager().find("ROLE", "example").component
    assert all(field.description for field in found.options.model_fields.values())
