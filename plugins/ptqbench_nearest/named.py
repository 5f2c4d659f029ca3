"""The plan passes `float-layers` and `layer-bits`: exceptions for layers that are named."""

from __future__ import annotations

from abc import abstractmethod
from fnmatch import fnmatchcase

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import LayerPlan, Plan, Probe
from ptqbench.roles.plan import PlanPass
from ptqbench_nearest import FloatLayersOptions, LayerBitsOptions, PatternOptions
from ptqbench_nearest.bits import FLOAT, with_bits


class NamedLayers(PlanPass):
    """Changes the bits of layers whose whole name matches one of some shell-style patterns."""

    options: PatternOptions

    def apply(self, plan: Plan, probe: Probe) -> Plan:
        """A plan with other bits. Raises `CellFailedError` if no layer matches and the option `required` is set."""
        matches = {layer.name: pattern for layer in plan.layers if (pattern := self._match(layer.name)) is not None}
        if not matches and self.options.required:
            raise CellFailedError(
                f"no layer is called {' or '.join(self.options.patterns)}",
                "names are those that `ptqbench plan` lists, from the first to the last letter; or set required = false",
            )
        return plan.with_layers(self._change(plan[name], pattern) for name, pattern in matches.items())

    def _match(self, name: str) -> str | None:
        return next((pattern for pattern in self.options.patterns if fnmatchcase(name, pattern)), None)

    def _change(self, layer: LayerPlan, pattern: str) -> LayerPlan:
        weights, activations = self._bits()
        weight, activation = with_bits(layer.weight, weights), with_bits(layer.activation, activations)
        if (weight, activation) == (layer.weight, layer.activation):
            return layer
        return layer.change(self._why(pattern), weight=weight, activation=activation)

    @abstractmethod
    def _bits(self) -> tuple[int, int]:
        """Bits of weights and activations, as `with_bits` takes them."""

    @abstractmethod
    def _why(self, pattern: str) -> str:
        """The reason in the bit ledger, for a layer that this pattern matched."""


class FloatLayers(NamedLayers):
    """Leaves layers in full precision, weights and inputs."""

    options: FloatLayersOptions

    def _bits(self) -> tuple[int, int]:
        return FLOAT, FLOAT

    def _why(self, pattern: str) -> str:
        return f"float-layers: {pattern}"


class LayerBits(NamedLayers):
    """Gives layers other bits. Full precision stays full precision."""

    options: LayerBitsOptions

    def _bits(self) -> tuple[int, int]:
        return self.options.weights, self.options.activations

    def _why(self, pattern: str) -> str:
        return f"layer-bits: {pattern}"
