"""The quantized copy of a denoiser."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ptqbench.errors import CellFailedError
from ptqbench.quant.attention import AttentionSites, attach
from ptqbench.quant.layer import QuantizerFactory, QuantLayer, StepContext
from ptqbench.quant.plan import Plan, UnitPlan
from ptqbench.roles.quantizer import Quantizer

Site = QuantLayer | AttentionSites
"""A place of the network with quantizers of its own: what is observed, learned, exported and restored as a whole."""


class QuantizedDenoiser:
    """A deep copy of a denoiser with `QuantLayer`s for its planned layers and `AttentionSites` in its planned attentions.

    `module` is the copy, whose calls keep the original's signature. `layers` and `attentions` map names to quantized layers
    and attentions in execution order, `context` carries the sampling step.
    """

    def __init__(self, denoiser: nn.Module, plan: Plan, factory: QuantizerFactory, steps: int) -> None:
        self.module = _copied(denoiser).requires_grad_(False).eval()
        self.plan = plan
        self.context = StepContext(steps)
        self.layers: dict[str, QuantLayer] = {}
        # A module may stand at several paths; the plan knows it by the first.
        places: dict[nn.Module, list[str]] = {}
        for name, module in self.module.named_modules(remove_duplicate=False):
            places.setdefault(module, []).append(name)
        for layer in plan.layers:
            original = self.module.get_submodule(layer.name)
            self.layers[layer.name] = QuantLayer(original, layer, factory, self.context)
            for place in places[original]:
                parent, _, attribute = place.rpartition(".")
                setattr(self.module.get_submodule(parent), attribute, self.layers[layer.name])
        self.attentions: dict[str, AttentionSites] = {}
        for attention in plan.attentions:
            sites = AttentionSites(attention, factory, self.context)
            attach(self.module.get_submodule(attention.name), sites)
            self.attentions[attention.name] = sites
        _leave_no_shortcuts(self.module)
        # Once more, for what was put in: nothing may behave as in training (dropout) while a unit is fitted.
        self.module.eval()
        if not self.layers:
            hint = "the probe found no convolution or linear layer"
            raise CellFailedError("no layer of this model can be quantized", hint)

    @property
    def sites(self) -> dict[str, Site]:
        """Layers and attentions by name."""
        return {**self.layers, **self.attentions}

    def owned(self, unit: UnitPlan) -> dict[str, Site]:
        """What is fitted with a unit: its layers, and the attentions in or at its module.

        A synthetic unit calls its layers only. Under units that are single layers no attention is fitted: grids stay as their
        ranges made them.
        """
        own: dict[str, Site] = {name: self.layers[name] for name in unit.layers}
        if not unit.synthetic:
            inside = f"{unit.module}." if unit.module else ""
            own |= {n: sites for n, sites in self.attentions.items() if n == unit.module or n.startswith(inside)}
        return own

    def find_weight_grids(self) -> None:
        """Ranges for every weight, rounded to nearest."""
        for layer in self.layers.values():
            layer.find_weight_grids()

    @contextmanager
    def only(self, names: Collection[str]) -> Iterator[None]:
        """Meanwhile layers and attentions that are not named compute in full precision."""
        others = [site for name, site in self.sites.items() if name not in names]
        kept = [(site.quantize_activations, site.baked if isinstance(site, QuantLayer) else None) for site in others]
        for site in others:
            site.quantize_activations = False
            if isinstance(site, QuantLayer):
                site.baked = site.weight.detach()
        try:
            yield
        finally:
            for site, (rounding, baked) in zip(others, kept, strict=True):
                site.quantize_activations = rounding
                if isinstance(site, QuantLayer) and baked is not None:
                    site.baked = baked

    def substituted(self, values: Mapping[Tensor, Tensor]) -> QuantizedDenoiser:
        """A view of this network that computes with other tensors in place of some of its parameters."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.module.named_parameters()}
        view = copy.copy(self)
        view.module = _Substituted(self.module, {names[own]: value for own, value in values.items()})
        return view

    def quantize_activations(self, on: bool) -> None:
        """Round the inputs of layers and the operands of attention products, or leave them in floating point."""
        for site in self.sites.values():
            site.quantize_activations = on

    @contextmanager
    def observing(self) -> Iterator[None]:
        """While active, every activation quantizer sees its inputs and none quantizes."""
        for site in self.sites.values():
            site.observe_activations, site.quantize_activations = True, False
        try:
            yield
        finally:
            for site in self.sites.values():
                site.observe_activations = False

    def freeze_activations(self) -> None:
        """Fix every activation grid. Raises `CellFailedError` naming the layers and attention sites that saw no values."""
        silent = []
        for name, quantizer in self._activation_quantizers():
            try:
                quantizer.freeze()
            except CellFailedError as error:
                silent.append(f"{name}: {error.message}")
        if silent:
            raise CellFailedError("activation ranges are missing; " + "; ".join(silent))

    def _activation_quantizers(self) -> Iterator[tuple[str, Quantizer]]:
        """With names for people, which partitions of a layer share."""
        for name, layer in self.layers.items():
            yield from ((name, part.activation) for part in layer.partitions() if part.activation is not None)
        for name, attention in self.attentions.items():
            yield from ((f"{name} {site}", quantizer) for site, quantizer in attention.quantizers.items())

    @torch.no_grad()
    def uncalled(self, run: Callable[[], object]) -> list[str]:
        """The layers that are not called while `run` evaluates the copy."""
        waiting = dict.fromkeys(self.layers)
        handles = [
            layer.register_forward_pre_hook(lambda *_, name=name: waiting.pop(name, None))
            for name, layer in self.layers.items()
        ]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
        return list(waiting)

    def export(self) -> dict[str, Tensor]:
        """The finished grids and codes of layers and attentions, flat: "layer|w.0.codes", "attention|a.q.scale", ..."""
        return {f"{name}|{key}": value for name, site in self.sites.items() for key, value in site.export().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `export`, also for a part of it. Raises `CellFailedError` for a state of another plan."""
        sites = self.sites
        device = next(iter(self.layers.values())).weight.device
        by_site: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, rest = key.partition("|")
            by_site.setdefault(name, {})[rest] = value.to(device)
        if unknown := sorted(set(by_site) - set(sites)):
            raise CellFailedError(f"stored state names unknown layers: {', '.join(unknown)}")
        for name, tensors in by_site.items():
            sites[name].restore(tensors)


def _copied(denoiser: nn.Module) -> nn.Module:
    """Raises `CellFailedError` for a module that holds what cannot be copied, a tensor amid its derivation for example."""
    try:
        return copy.deepcopy(denoiser)
    except (RuntimeError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CellFailedError(
            f"{type(denoiser).__name__} cannot be copied: {reason}",
            "call it once under torch.no_grad(), or delete what it keeps of earlier calls",
        ) from error


def _leave_no_shortcuts(network: nn.Module) -> None:
    """torch's transformer encoders hand their layers' weights to one fused kernel where nothing hangs on the layers: it would
    read the full-precision weights, and no input would be rounded."""
    for module in network.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.register_forward_pre_hook(_stay)
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # a kind of tensor that only the fused kernel takes


def _stay(*_: Any) -> None:
    """A hook that does nothing, for what hangs hooks on a layer has it called."""


class _Substituted(nn.Module):
    """Calls a network with other tensors in place of some of its parameters."""

    def __init__(self, network: nn.Module, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network, self.values = network, dict(values)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.network, self.values, args, kwargs)
