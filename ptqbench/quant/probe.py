"""One forward pass with hooks: which layers and attentions exist, in which order they run, and what made their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from ptqbench.process.torch_settings import ATTENTION
from ptqbench.quant.attention import AttentionCall
from ptqbench.quant.layer import product
from ptqbench.quant.plan import AttentionProbe, LayerProbe, Probe
from ptqbench.quant.units import attends

QUANTIZABLE = (nn.Conv2d, nn.Conv1d, nn.Linear)

SOFTMAXES = (F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax, F.multi_head_attention_forward)
"""What may be an attention that is not seen as one. (torch's multi-head attention hides the softmax that it computes.)"""

PRECISE = 1e-3
"""What kernels of different kinds may make of the same product, as a share of it, with room to spare."""


class _CatRecorder(TorchFunctionMode):
    """Remembers which tensors came out of a concatenation, along which axis and of which widths.

    The tensors are kept alive, so that an `id` cannot be reused while the pass runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.widths: dict[tuple[int, int], tuple[int, ...]] = {}
        self.alive: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.cat, torch.concat, torch.concatenate):
            given = dict(zip(("tensors", "dim"), args, strict=False)) | (kwargs or {})
            dim = given.get("dim", 0) % out.dim()
            self.widths[id(out), dim] = tuple(int(t.shape[dim]) for t in given["tensors"])
            self.alive.append(out)
        return out

    def channels(self, module: nn.Module, inp: Tensor) -> tuple[int, ...]:
        """Channel widths of a layer's input (last axis for a linear layer, else axis 1) if concatenated, else ().

        Plain feature vectors do not count: the sine and cosine halves of a timestep embedding are no skip connection.
        """
        axis = inp.dim() - 1 if isinstance(module, nn.Linear) else 1
        return self.widths.get((id(inp), axis), ()) if inp.dim() > 2 else ()


class _AttentionRecorder(TorchFunctionMode):
    """Remembers which modules call scaled dot-product attention, and which compute a softmax of another kind.

    `executing` is the stack of the denoiser's modules that are running, the innermost last; a call outside of them all is
    none of the denoiser's.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.executing: list[str] = []
        self.seen: dict[str, AttentionProbe] = {}
        self.softmaxes: dict[str, None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.executing and func is ATTENTION:
            self._record(self.executing[-1], AttentionCall(*args, **(kwargs or {})), out)
        elif self.executing and func in SOFTMAXES:
            self.softmaxes.setdefault(self.executing[-1])
        return out

    def _record(self, name: str, call: AttentionCall, out: Tensor) -> None:
        """Count a call whose output is `out` (B, ..., H, L, V); B may also be one axis together with the heads."""
        width = out.shape[-1]
        rows = out.numel() // width
        scores = rows * call.key.shape[-2] // self.batch
        before = self.seen.get(name, AttentionProbe(name, 0, 0, 0))
        self.seen[name] = replace(
            before,
            score_macs=before.score_macs + scores * call.query.shape[-1],
            value_macs=before.value_macs + scores * width,
            calls=before.calls + 1,
        )


class _LayerRecorder:
    """Notes every quantizable layer that runs, at its first call; `x` is the denoiser's input (B, C, H, W)."""

    def __init__(self, x: Tensor, cats: _CatRecorder) -> None:
        self.x = x
        self.cats = cats
        self.layers: dict[str, LayerProbe] = {}
        self._given: dict[str, Tensor] = {}

    def watch(self, name: str, module: nn.Module) -> list[RemovableHandle]:
        """Hooks on a layer, the first before it and the last one after it, so that others' lie in between."""

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._given.setdefault(name, _input_of(args, kwargs))

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            self._note(name, module, _input_of(args, kwargs), out)

        return [
            module.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]

    def _note(self, name: str, module: nn.Module, inp: Tensor, out: Any) -> None:
        macs = _macs(module, out, batch=self.x.shape[0])
        if name in self.layers:
            self.layers[name] = replace(self.layers[name], macs=self.layers[name].macs + macs)
            return
        self.layers[name] = LayerProbe(
            name=name,
            kind=type(module).__name__,
            weight_shape=tuple(_weight(module).shape),
            macs=macs,
            cat=self.cats.channels(module, inp),
            reads_input=inp is self.x or inp.data_ptr() == self.x.data_ptr(),
            plain=_is_plain(module, self._given.pop(name), out),
        )


def probe_denoiser(denoiser: nn.Module, call: Callable[[], Any], x: Tensor) -> Probe:
    """Run `call()`, which evaluates `denoiser` on input `x` (B, C, H, W), and report its quantizable layers and attentions.

    Layers that are not called do not appear: nothing could calibrate them. A layer called twice appears at its first
    call, with the work of all. An attention is the innermost module that calls
    `torch.nn.functional.scaled_dot_product_attention`, whatever its class; all its calls count as one. Attentions that spell
    out products and softmax are not seen, but the modules that compute a softmax are named in `Probe.softmaxes`, and those
    that have an attention's layers in `Probe.unseen`.
    """
    calls: dict[str, None] = {}
    handles: list[RemovableHandle] = []
    with _CatRecorder() as cats, _AttentionRecorder(x.shape[0]) as attentions, torch.no_grad():
        layers = _LayerRecorder(x, cats)
        for name, module in denoiser.named_modules():
            handles += _follow(name, module, calls, attentions.executing)
            if isinstance(module, QUANTIZABLE):
                handles += layers.watch(name, module)
        try:
            call()
        finally:
            for handle in handles:
                handle.remove()
    return Probe(
        tuple(layers.layers.values()),
        tuple(calls),
        attentions=tuple(attentions.seen.values()),
        softmaxes=tuple(attentions.softmaxes),
        unseen=_unseen(denoiser, calls, attentions.seen),
    )


def _input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a layer's call was given, by place or by name."""
    found: Tensor = args[0] if args else kwargs["input"]
    return found


def _unseen(denoiser: nn.Module, calls: Iterable[str], seen: Iterable[str]) -> tuple[str, ...]:
    """Modules that are attentions by their layers, and neither they nor anything in them makes a call that is seen."""
    found = [name for name in calls if attends(denoiser.get_submodule(name))]
    return tuple(name for name in found if not any(f"{inner}.".startswith(f"{name}." if name else "") for inner in seen))


def _follow(name: str, module: nn.Module, calls: dict[str, None], executing: list[str]) -> list[RemovableHandle]:
    """Hooks that note a module's first call in `calls`, and keep it on the stack `executing` while it runs."""

    def enter(*_: Any) -> None:
        calls.setdefault(name)
        executing.append(name)

    def leave(*_: Any) -> None:
        executing.pop()

    # Leaving also after an error, since a caller may catch it and go on.
    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]


def _weight(layer: nn.Module) -> Tensor:
    """Also one that is computed from other parameters (torch.nn.utils.parametrize)."""
    return layer.weight  # type: ignore[return-value]


def _is_plain(layer: nn.Module, x: Tensor, out: Tensor) -> bool:
    """Whether a layer gave what its weight alone makes of x, up to rounding."""
    try:
        expected = product(layer, x, _weight(layer))
    except RuntimeError:
        # Its own forward takes other shapes.
        return False
    return expected.shape == out.shape and bool((expected - out).norm() <= PRECISE * out.norm())


def _macs(module: nn.Module, out: Tensor, batch: int) -> int:
    """Multiply-accumulates of a convolution or linear layer for one sample: outputs times fan-in."""
    return out.numel() // batch * math.prod(_weight(module).shape[1:])
