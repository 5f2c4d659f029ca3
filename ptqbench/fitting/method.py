"""What a method means for a model: its quantizers, the plan of all layers, the units, and the phases with work to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ptqbench.boundary.build import build
from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench.quant.plan import Plan, Probe, check_weights
from ptqbench.recipe.experiment import Method, SiteChoice
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.reconstruction import Phase, Reconstruction


@dataclass(frozen=True)
class MethodFactory:
    """Builds the quantizers that a method chose for its two kinds of sites (a `QuantizerFactory`)."""

    weights: SiteChoice
    activations: SiteChoice

    def weight(self, spec: QuantSpec, layout: Layout) -> Quantizer:
        return _quantizer(self.weights, spec, layout)

    def activation(self, spec: QuantSpec, layout: Layout) -> Quantizer:
        return _quantizer(self.activations, spec, layout)


def _quantizer(choice: SiteChoice, spec: QuantSpec, layout: Layout) -> Quantizer:
    return build(choice.quantizer, spec=spec, layout=layout, estimator=lambda: build(choice.range, levels=spec.levels))


def _spec(choice: SiteChoice, probe: Probe) -> QuantSpec | None:
    steps = probe.steps if choice.each else choice.steps
    return None if choice.off else QuantSpec(choice.bits, choice.per, choice.symmetric, steps)


def make_plan(probe: Probe, method: Method) -> Plan:
    """Every layer with the method's grids, then the plan passes in order.

    Raises `CellFailedError` if that rounds a weight of which it is not known what its layer does with it.
    """
    plan = Plan.uniform(probe, _spec(method.weights, probe), _spec(method.activations, probe))
    for bound in method.passes:
        plan = build(bound).apply(plan, probe)
    check_weights(plan, probe)
    return plan


def has_work(phase: Phase, method: Method) -> bool:
    """Whether a phase has anything to learn: a site that is quantized (not at 32 bits) with trainables of its kinds."""
    return any(kinds & phase.learns for _, kinds in _offers(method))


def phases_with_work(reconstruction: Reconstruction, method: Method) -> list[Phase]:
    """The phases that have anything to learn.

    Raises `CellFailedError` for a quantizer with trainables of which no phase learns any: it would stay as it started.
    """
    learned = frozenset(kind for phase in reconstruction.phases for kind in phase.learns)
    for quantizer, kinds in _offers(method):
        if kinds and not kinds & learned:
            raise CellFailedError(
                f"the quantizer {quantizer!r} learns {_listed(kinds)}, and no phase of {method.reconstruction.name!r} does",
                "choose a reconstruction that learns this kind of trainables, or a quantizer that learns nothing",
            )
    return [phase for phase in reconstruction.phases if has_work(phase, method)]


def _offers(method: Method) -> list[tuple[str, frozenset[str]]]:
    """Name and kinds of trainables of the quantizer at each site that is quantized."""
    found = []
    for site in (method.weights, method.activations):
        if not site.off:
            quantizer: type[Quantizer] = site.quantizer.component.load()
            found.append((site.quantizer.name, quantizer.offers(site.quantizer.options)))
    return found


def _listed(kinds: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(kinds)))
