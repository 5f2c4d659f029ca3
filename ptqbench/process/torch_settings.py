"""torch's settings that decide how it computes. Newer versions have words of their own for precision; both are known here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as functional

from ptqbench.process.shared import BLOCK, RUN, UNKNOWN, Shared

ATTENTION = torch._C._nn.scaled_dot_product_attention
"""torch's own, from where torch keeps it, whatever has been put under the public name since."""

_TINY = 5e-309
"""A denormal number."""


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """So many CPU threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def torch_settings() -> dict[str, Shared]:
    """All of them, by name; those of precision last, since the older words change the newer ones."""
    return _defaults() | _modes() | _kernels() | _precisions()


def _defaults() -> dict[str, Shared]:
    dtype, device = torch.get_default_dtype, torch.get_default_device
    return {
        "default dtype": Shared("torch's default dtype", dtype, torch.set_default_dtype, torch.float32, "name dtype=..."),
        "default device": Shared("torch's default device", device, _set_device, torch.device("cpu"), "name device=..."),
        "threads": Shared("torch's number of threads", torch.get_num_threads, torch.set_num_threads, UNKNOWN, RUN),
        "attention": Shared(
            "torch.nn.functional.scaled_dot_product_attention",
            lambda: functional.scaled_dot_product_attention,
            partial(setattr, functional, "scaled_dot_product_attention"),
            ATTENTION,
            "call another function in modules of your own",
        ),
    }


def _modes() -> dict[str, Shared]:
    found = {
        "inference mode": Shared("torch's inference mode", torch.is_inference_mode_enabled, _set_inference, False, BLOCK),
        "grad mode": Shared("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled, True, BLOCK),
        "denormals": Shared("how torch treats denormal numbers", _flushes, torch.set_flush_denormal, False, RUN),
        "deterministic": Shared(
            "torch's deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0, RUN
        ),
    }
    for kind in ("cpu", "cuda"):
        read, write = partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind)
        found[f"autocast {kind}"] = Shared(f"torch's autocast on {kind}", read, write, False, BLOCK)
    return found


def _kernels() -> dict[str, Shared]:
    """Which kernels torch chooses from."""
    found = {}
    for kind in ("flash", "mem_efficient", "math", "cudnn"):
        read, write = (getattr(torch.backends.cuda, name) for name in (f"{kind}_sdp_enabled", f"enable_{kind}_sdp"))
        found[f"sdp {kind}"] = Shared(f"torch's {kind} kernel of attention", read, write, True, BLOCK)
    flags = {"cudnn.enabled": True, "cudnn.deterministic": False, "cudnn.benchmark": False, "mkldnn.enabled": True}
    return found | {name: _flag(name, fresh) for name, fresh in flags.items() if _has(name)}


def _precisions() -> dict[str, Shared]:
    """How far torch may round the operands of float32 products."""
    fresh = "high" if os.environ.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1" else "highest"
    read, write = partial(_old_word, torch.get_float32_matmul_precision), partial(_set_old, torch.set_float32_matmul_precision)
    found = {"matmul precision": Shared("torch's float32 matmul precision", read, write, fresh, RUN)}
    for name in ("cuda.matmul.allow_tf32", "cudnn.allow_tf32"):
        flag = _flag(name, UNKNOWN)
        found[name] = replace(flag, read=partial(_old_word, flag.read), write=partial(_set_old, flag.write))
    kinds = {"cuda": ("matmul",), "cudnn": ("conv", "rnn"), "mkldnn": ("matmul", "conv", "rnn")}
    names = [f"{backend}.{kind}.fp32_precision" for backend, several in kinds.items() for kind in several]
    return found | {name: _flag(name, UNKNOWN) for name in names if _has(name)}


def _flag(name: str, fresh: Any) -> Shared:
    """An attribute somewhere below `torch.backends`."""
    holder, _, attribute = name.rpartition(".")
    owner = attrgetter(holder)(torch.backends)
    return Shared(f"torch.backends.{name}", partial(getattr, owner, attribute), partial(setattr, owner, attribute), fresh, RUN)


def _has(name: str) -> bool:
    try:
        attrgetter(name)(torch.backends)
    except AttributeError:
        return False
    return True


def _old_word(read: Callable[[], Any]) -> Any:
    """What an old word for several operations says; None where they differ, which it cannot say. Theirs are read as well."""
    try:
        return read()
    except RuntimeError:
        return None


def _set_old(write: Callable[[Any], object], value: Any) -> None:
    if value is not None:
        write(value)


def _set_device(device: torch.device) -> None:
    # The host is the default without any choice; choosing it sends every call of torch through Python.
    torch.set_default_device(None if device == torch.device("cpu") else device)


def _set_inference(on: bool) -> None:
    # There is no setter: a block is entered inside the one that was left open.
    torch.inference_mode(on).__enter__()


def _flushes() -> bool:
    return _TINY * 1.0 == 0.0
