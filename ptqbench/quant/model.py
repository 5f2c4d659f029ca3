"""The quantized copy of a denoiser."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.layer import QuantizerFactory, QuantLayer, StepContext
from ptqbench.quant.plan import Plan


class QuantizedDenoiser:
    """A deep copy of a denoiser whose planned layers are `QuantLayer`s; calls keep the original's signature.

    `module` is the copy, `layers` maps names to quantized layers in execution order, `context` carries the sampling
    step.
    """

    def __init__(self, denoiser: nn.Module, plan: Plan, factory: QuantizerFactory, steps: int) -> None:
        self.module = copy.deepcopy(denoiser).requires_grad_(False).eval()
        self.plan = plan
        self.context = StepContext(steps)
        self.layers: dict[str, QuantLayer] = {}
        for layer in plan.layers:
            parent_name, _, attribute = layer.name.rpartition(".")
            parent = self.module.get_submodule(parent_name)
            quantized = QuantLayer(getattr(parent, attribute), layer, factory, self.context)
            setattr(parent, attribute, quantized)
            self.layers[layer.name] = quantized
        if not self.layers:
            hint = "the probe found no convolution or linear layer"
            raise CellFailedError("no layer of this model can be quantized", hint)

    def find_weight_grids(self) -> None:
        """Ranges for every weight, rounded to nearest."""
        for layer in self.layers.values():
            layer.find_weight_grids()

    def quantize_activations(self, on: bool) -> None:
        for layer in self.layers.values():
            layer.quantize_activations = on

    @contextmanager
    def observing(self) -> Iterator[None]:
        """While active, every activation quantizer sees its inputs and none quantizes."""
        for layer in self.layers.values():
            layer.observe_activations, layer.quantize_activations = True, False
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.observe_activations = False

    def freeze_activations(self) -> None:
        """Fix every activation grid. Raises `CellFailedError` naming the layers that saw no values."""
        silent = []
        for name, layer in self.layers.items():
            for part in layer.partitions():
                if part.activation is None:
                    continue
                try:
                    part.activation.freeze()
                except CellFailedError as error:
                    silent.append(f"{name}: {error.message}")
        if silent:
            raise CellFailedError("activation ranges are missing; " + "; ".join(silent))

    def export(self) -> dict[str, Tensor]:
        """The finished grids and codes of all layers, flat: "layer|w.0.codes", ..."""
        return {f"{name}|{key}": value for name, layer in self.layers.items() for key, value in layer.export().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `export`, also for a part of the layers. Raises `CellFailedError` for a state of another plan."""
        by_layer: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, rest = key.partition("|")
            by_layer.setdefault(name, {})[rest] = value
        if unknown := sorted(set(by_layer) - set(self.layers)):
            raise CellFailedError(f"stored state names unknown layers: {', '.join(unknown)}")
        for name, tensors in by_layer.items():
            self.layers[name].restore(tensors)
