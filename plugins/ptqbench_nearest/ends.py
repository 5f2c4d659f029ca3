"""The plan pass `first-last-8bit`."""

from __future__ import annotations

from dataclasses import replace

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.plan import LayerPlan, Plan, Probe
from ptqbench.roles.plan import PlanPass
from ptqbench_nearest import EndsOptions


class FirstLastPass(PlanPass):
    """Raises the bits of the layers that read the denoiser's input x, and of the layer that is executed last."""

    options: EndsOptions

    def apply(self, plan: Plan, probe: Probe) -> Plan:
        """A plan with wider ends. Raises `CellFailedError` if no layer reads the denoiser's input."""
        first = [layer.name for layer in probe.layers if layer.reads_input]
        if not first:
            raise CellFailedError(
                "first-last-8bit found no layer that reads the denoiser's input",
                "the model changes its input before the first layer; drop this pass or name the layers another way",
            )
        changed = {name: self._widen(plan[name], "first layer") for name in first}
        last = probe.layers[-1].name
        changed[last] = self._widen(changed.get(last, plan[last]), "last layer")
        return plan.with_layers(changed.values())

    def _widen(self, layer: LayerPlan, place: str) -> LayerPlan:
        weight, activation = self._at_least(layer.weight), self._at_least(layer.activation)
        if (weight, activation) == (layer.weight, layer.activation):
            return layer
        return layer.change(f"first-last-8bit: {place}", weight=weight, activation=activation)

    def _at_least(self, spec: QuantSpec | None) -> QuantSpec | None:
        """`spec` with enough bits; full precision (None) stays full precision."""
        if spec is None or spec.bits >= self.options.bits:
            return spec
        return replace(spec, bits=self.options.bits)
