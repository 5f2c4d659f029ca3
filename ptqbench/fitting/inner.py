"""The unit under reconstruction as a value: samples, trainables, and a pure loss (the `InnerProblem` of weighters)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map_only

from ptqbench.errors import CellFailedError
from ptqbench.fitting.losses import UnitLoss, total
from ptqbench.fitting.network import NetworkError
from ptqbench.fitting.unit_data import UnitData
from ptqbench.quant.layer import StepContext
from ptqbench.roles.loss import Outcome
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.weighter import Batch
from ptqbench.sampling.capture import outputs_of
from ptqbench.stage.counting import count_unit


@dataclass(frozen=True)
class UnitModules:
    """A unit's callable, quantized and in full precision, and its own layers in both, by name in execution order."""

    quantized: nn.Module
    original: nn.Module
    layers: Mapping[str, tuple[nn.Module, nn.Module]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepFacts:
    """`timesteps` (S,) of the sampling steps; on demand the sampler's gains (S,) at each, and the full-precision model's
    denoising error (S,)."""

    timesteps: Tensor
    gains: Callable[[], Tensor]
    denoising_error: Callable[[], Tensor]


@dataclass
class UnitProblem:
    """Implements `ptqbench.roles.weighter.InnerProblem` for a module with learning quantizers inside.

    `kinds` gives each trainable's kind. The loss exponent `power`, the number of iterations, the learning rates and the
    probabilities of keeping quantized inputs and activations are the reconstruction's, which says them in its `Course`.
    """

    modules: UnitModules
    kinds: Mapping[str, str]
    data: UnitData
    loss: UnitLoss
    facts: StepFacts
    context: StepContext
    device: torch.device
    network: NetworkError | None = None
    power: float = 2.0
    iterations: int = 0
    input_keep: float = 1.0
    activation_keep: float = 1.0
    learning_rate: dict[str, float] = field(default_factory=dict)

    @property
    def module(self) -> nn.Module:
        return self.modules.quantized

    @cached_property
    def params(self) -> dict[str, Tensor]:
        """The current trainables, the tensors that the optimiser moves."""
        return {name: self.module.get_parameter(name) for name in self.kinds}

    @cached_property
    def learning(self) -> list[Quantizer]:
        """The quantizers inside the unit that learn."""
        return [m for m in self.module.modules() if isinstance(m, Quantizer) and m.learning]

    @property
    def train_steps(self) -> Tensor:
        return self.data.step[self.data.train]

    @property
    def timesteps(self) -> Tensor:
        return self.facts.timesteps

    def gains(self) -> Tensor:
        """See `InnerProblem.gains`."""
        return self.facts.gains()

    def denoising_error(self) -> Tensor:
        """See `InnerProblem.denoising_error`."""
        return self.facts.denoising_error()

    def draw(
        self,
        size: int,
        *,
        split: str = "train",
        groups: Sequence[int] | None = None,
        among: Tensor | None = None,
        rng: Generator,
    ) -> Batch:
        """See `InnerProblem.draw`; `among` are the positions to draw from, all if None."""
        if groups is not None and split == "train":
            raise ValueError("only the validation split has groups")
        position = torch.arange(len(self._pool(split)), dtype=torch.int64, device="cpu") if among is None else among.cpu()
        if groups is not None:
            position = position[
                torch.isin(self.data.validation_group, torch.tensor(list(groups), dtype=torch.int64, device="cpu"))
            ]
        if size < len(position):
            order = torch.randperm(len(position), generator=rng, dtype=torch.int64, device="cpu")
            position = position.index_select(0, order[:size])
        seed = int(torch.randint(2**62, (1,), generator=rng, dtype=torch.int64, device="cpu"))
        return self.take(position, split=split, seed=seed)

    def take(self, index: Tensor, *, split: str = "train", seed: int = 0) -> Batch:
        """See `InnerProblem.take`."""
        return self.batch(self._pool(split).index_select(0, index.cpu()), index, seed)

    def _pool(self, split: str) -> Tensor:
        """Where the samples of "train" or "validation" stand in the calibration set."""
        if split not in ("train", "validation"):
            raise ValueError(f"there is no split {split!r}: train or validation")
        return self.data.train if split == "train" else self.data.validation

    def batch(self, samples: Tensor, position: Tensor, seed: int = 0) -> Batch:
        """The samples at these places of the calibration set."""
        return self.data.batch(samples, position, seed, keep=self.input_keep, device=self.device)

    def losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """See `InnerProblem.losses`."""
        return total(self.loss_parts(batch, params))

    def network_losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """See `InnerProblem.network_losses`. Raises `CellFailedError` where no network is known."""
        if self.network is None or batch.place is None:
            raise CellFailedError("this unit is fitted without its network", "let it validate on the unit alone")
        values = self.params if params is None else params
        with sdpa_kernel(SDPBackend.MATH):
            return self.network.losses(batch.place, {own: values[name] for name, own in self.params.items()})

    def loss_parts(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """See `InnerProblem.loss_parts`. Attention runs on the math kernel, which has second derivatives everywhere."""
        count_unit(len(batch))
        self.context.step = batch.step
        wanted = self.modules.layers if self.loss.reads_layers else {}
        with sdpa_kernel(SDPBackend.MATH):
            quantized, copies = {name: pair[0] for name, pair in wanted.items()}, self._in_place
            with self._dropping(batch.seed), tapped(quantized, copies=copies) as layers:
                out = self._call(batch, params)
            outcome = Outcome(
                output=outputs_of(out),
                target=batch.target,
                step=batch.step,
                power=self.power,
                layers=layers,
                layer_targets=self._full_precision_layers(batch) if wanted else {},
                sensitivity=batch.sensitivity,
            )
        return self.loss.parts(outcome)

    def _call(self, batch: Batch, params: Mapping[str, Tensor] | None) -> Any:
        args, kwargs = self._own(batch.args, dict(batch.kwargs))
        if params is None:
            return self.module(*args, **kwargs)
        return functional_call(self.module, dict(params), args, kwargs)

    def _own(self, *inputs: Any) -> Any:
        """Inputs as the unit may have them: copies if it writes into them, since a batch may be evaluated once more."""
        return tree_map_only(Tensor, torch.clone, inputs) if self._in_place else inputs

    @cached_property
    def _in_place(self) -> bool:
        """Whether the unit writes into its inputs, or into what its layers gave: activation functions may."""
        sample, seen = self.take(torch.zeros(1, dtype=torch.int64, device="cpu")), list[tuple[Tensor, int]]()

        def note(value: Any) -> None:
            seen.extend((leaf, leaf._version) for leaf in tree_leaves(value) if isinstance(leaf, Tensor))

        note((sample.args, sample.kwargs))
        handles = [pair[1].register_forward_hook(lambda _m, _a, out: note(out)) for pair in self.modules.layers.values()]
        try:
            with torch.no_grad():
                self.modules.original(*sample.args, **sample.kwargs)
        finally:
            for handle in handles:
                handle.remove()
        return any(tensor._version != version for tensor, version in seen)

    @torch.no_grad()
    def _full_precision_layers(self, batch: Batch) -> dict[str, Tensor]:
        count_unit(len(batch))
        args, kwargs = self._own(*(batch.full_inputs or (batch.args, batch.kwargs)))
        original = {name: pair[1] for name, pair in self.modules.layers.items()}
        with tapped(original, copies=self._in_place) as layers:
            self.modules.original(*args, **kwargs)
        return layers

    @contextmanager
    def _dropping(self, seed: int) -> Iterator[None]:
        """Activation quantization is dropped at random meanwhile, by masks that the batch's seed determines."""
        if self.activation_keep >= 1:
            yield
            return
        self.context.keep = self.activation_keep
        self.context.generator = torch.Generator(self.device).manual_seed(seed)
        try:
            yield
        finally:
            self.context.keep, self.context.generator = 1.0, None

    @contextmanager
    def nothing_dropped(self) -> Iterator[None]:
        """Meanwhile units see quantized inputs and quantize every activation, so that all methods are measured alike.

        At the end the problem's settings are what they were.
        """
        kept = self.input_keep, self.activation_keep, self.context.step
        self.input_keep = self.activation_keep = 1.0
        try:
            yield
        finally:
            self.input_keep, self.activation_keep, self.context.step = kept

    @torch.no_grad()
    def mean_loss(self, places: Tensor | None = None) -> float:
        """Mean loss over the samples at these places of the calibration set (all training samples, if left out), on quantized
        inputs with nothing dropped."""
        places = self.data.train if places is None else places
        with self.nothing_dropped():
            losses = [self.losses(self.batch(piece, piece)).sum() for piece in places.split(64)]
        return sum(map(float, losses)) / len(places)


@contextmanager
def tapped(modules: Mapping[str, nn.Module], *, copies: bool = False) -> Iterator[dict[str, Tensor]]:
    """Yields a dict that fills with the outputs of these modules, or copies of them, by name in the order of their first
    call."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, out: Tensor) -> None:
            if name not in seen:
                seen[name] = out.clone() if copies else out

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def trainables(module: nn.Module, learns: frozenset[str]) -> dict[str, str]:
    """Names (relative to `module`) and kinds of what learns in the quantizers inside it."""
    return {
        f"{name}.{attribute}" if name else attribute: group.kind
        for name, quantizer in module.named_modules()
        if isinstance(quantizer, Quantizer) and quantizer.learning
        for group in quantizer.learnable()
        if group.kind in learns
        for attribute in group.names
    }
