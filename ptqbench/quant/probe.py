"""One forward pass with hooks: which layers exist, in which order they run, and what made their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ptqbench.quant.plan import LayerProbe, Probe

QUANTIZABLE = (nn.Conv2d, nn.Conv1d, nn.Linear)


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


def probe_denoiser(denoiser: nn.Module, call: Callable[[], Any], x: Tensor) -> Probe:
    """Run `call()`, which evaluates `denoiser` on input `x` (B, C, H, W), and report its quantizable layers.

    Layers that are not called do not appear: nothing could calibrate them. A layer called twice appears at its first
    call.
    """
    layers: dict[str, LayerProbe] = {}
    calls: dict[str, None] = {}
    handles = []
    with _CatRecorder() as cats, torch.no_grad():

        def enter(name: str, module: nn.Module) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
                if not isinstance(module, QUANTIZABLE) or name in layers:
                    return
                inp = args[0] if args else kwargs["input"]
                layers[name] = LayerProbe(
                    name=name,
                    kind=type(module).__name__,
                    weight_shape=tuple(module.weight.shape),
                    macs=_macs(module, out, batch=x.shape[0]),
                    cat=cats.channels(module, inp),
                    reads_input=inp is x or inp.data_ptr() == x.data_ptr(),
                )

            return hook

        for name, module in denoiser.named_modules():
            handles.append(module.register_forward_pre_hook(lambda *_, n=name: calls.setdefault(n, None)))
            handles.append(module.register_forward_hook(enter(name, module), with_kwargs=True))
        try:
            call()
        finally:
            for handle in handles:
                handle.remove()
    return Probe(tuple(layers.values()), tuple(calls))


def _macs(module: nn.Module, out: Tensor, batch: int) -> int:
    """Multiply-accumulates of a convolution or linear layer for one sample: outputs times fan-in."""
    return out.numel() // batch * math.prod(module.get_parameter("weight").shape[1:])
