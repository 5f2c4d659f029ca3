"""What every small first-party plugin registers: light, loadable, described, and of the promised interface."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from ptqbench.plugin.component import Component
from ptqbench.plugin.hookspecs import ROLES
from ptqbench.roles import loss, plan, quantizer, range, reconstruction, sampler, weighter

PLUGINS = ("nearest", "ranges", "uniform", "qdiffusion", "ptq4dm", "adaround", "lsq", "brecq", "qdrop", "edadm")
ROLE_MODULES = (loss, plan, quantizer, range, reconstruction, sampler, weighter)


def registered() -> Iterator[tuple[str, str, Component]]:
    """(plugin, interface, component) of all registrations."""
    interfaces = {role.name: role.interface for role in ROLES}
    for plugin in PLUGINS:
        for component in importlib.import_module(f"ptqbench_{plugin}").ptqbench_components():
            yield plugin, interfaces[component.role], component


ALL = list(registered())
NEEDED = {
    "attention": {"softmax": 16},
    "float-layers": {"patterns": ("conv_in",)},
    "layer-bits": {"patterns": ("conv_in",), "weights": 8},
}
"""Options of those components that can do nothing without."""

EVERY = pytest.mark.parametrize(("plugin", "interface", "component"), ALL, ids=[c.name for _, _, c in ALL])


@EVERY
def test_the_class_has_the_roles_interface(plugin: str, interface: str, component: Component) -> None:
    expected = next(getattr(module, interface) for module in ROLE_MODULES if hasattr(module, interface))
    assert issubclass(component.load(), expected)


@EVERY
def test_it_describes_itself(plugin: str, interface: str, component: Component) -> None:
    assert component.summary and not component.summary.endswith(".")
    for name, field in component.options.model_fields.items():
        assert field.description, f"{component.name}.{name}"
    component.options(**NEEDED.get(component.name, {}))


@EVERY
def test_unknown_options_are_refused(plugin: str, interface: str, component: Component) -> None:
    with pytest.raises(ValidationError):
        component.options.model_validate({"no_such_option": 1})


def test_the_expected_components_are_there() -> None:
    assert {component.name for _, _, component in ALL} >= {
        "adaround", "affine", "blocks", "ema", "first-last-8bit", "layers", "lsq", "minmax", "mse", "nearest", "normal",
        "random", "skip-split", "stride", "uniform",
    }  # fmt: skip
    learned = {component.name for _, _, component in ALL if "learned" in component.traits}
    assert learned == {"adaround", "lsq"}
