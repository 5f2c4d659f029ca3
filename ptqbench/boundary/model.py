"""What a model source returns: a `DiffusionModel`, whose functions are calls into the plugin like the source's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.boundary.call import Call, wrapped
from ptqbench.boundary.features import check_fingerprint
from ptqbench.boundary.values import check_finite, check_held, check_named, check_tensor, cumulative, described, held
from ptqbench.process.garbage import uncollected
from ptqbench.roles.model import Conditions, DiffusionModel, ModelSource


def _load(call: Call, _: ModelSource, load: Callable[[torch.device], DiffusionModel], device: torch.device) -> DiffusionModel:
    # A source imports the library that its networks are made of.
    with uncollected():
        found: Any = load(device)
    if not isinstance(found, DiffusionModel):
        raise call.refused(f"loaded {described(found)}", "return a ptqbench.roles.model.DiffusionModel")
    _check_network(call, found.denoiser)
    shape: Any = found.shape
    if not isinstance(shape, tuple) or len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise call.refused(f"gave {shape!r} as shape", "shape is (channels, height, width)")
    check_alphas(call, found.alphas_cumprod, flow=found.prediction == "flow")
    if isinstance(found.prompts, str) or not all(isinstance(text, str) for text in found.prompts):
        raise call.refused(f"gave {described(found.prompts)} as prompts", "prompts are texts in a tuple, one for each")
    return _guarded(call, found)


def _check_network(call: Call, denoiser: Any) -> None:
    if not isinstance(denoiser, nn.Module):
        raise call.refused(f"loaded {described(denoiser)} as denoiser", "the denoiser is a torch.nn.Module")
    if denoiser.training:
        raise call.refused("loaded a denoiser in training mode", "call eval(): dropout would be drawn anew at each prediction")
    half = sorted({str(p.dtype) for p in denoiser.parameters() if p.is_floating_point() and p.dtype != torch.float32})
    if half:
        raise call.refused(f"loaded a denoiser in {', '.join(half)}", "full precision is float32: call float()")


def check_alphas(call: Call, alphas: Any, *, flow: bool = False) -> None:
    """The training noise schedule (T,): in (0, 1], falling, in float64; that of a flow begins without any signal, at 0."""
    if not isinstance(alphas, Tensor) or alphas.dtype != torch.float64 or alphas.dim() != 1:
        raise call.refused(f"gave {described(alphas)} as alphas_cumprod", "alphas_cumprod is float64 (T,)")
    check_finite(call, "alphas_cumprod", alphas)
    if not cumulative(alphas, flow=flow) or bool((alphas.diff() > 0).any()):
        raise call.refused("gave alphas_cumprod that are no noise schedule", "cumulative products of alphas fall within (0, 1]")


def _guarded(call: Call, found: DiffusionModel) -> DiffusionModel:
    """A copy whose functions are calls into the plugin, and what they return is looked at."""
    evaluating, decoding, conditioning = (Call(call.owner, name) for name in ("call", "decode", "conditions"))
    evaluate, decode, conditions = (
        wrapped(inner, getattr(found, inner.method)) for inner in (evaluating, decoding, conditioning)
    )

    def checked_call(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
        if torch.compiler.is_compiling():
            return found.call(denoiser, x, t, cond)  # traced tensors have no values to look at
        before = held([("x", x), ("t", t)])
        # Channels and sizes are the network's, which a model's files decide.
        output = check_tensor(evaluating, "the output", evaluate(denoiser, x, t, cond), (len(x), None, None, None), x)
        check_held(evaluating, before)
        return output

    def checked_decode(latents: Tensor) -> Tensor:
        return check_tensor(decoding, "images", decode(latents), (len(latents), None, None, None))

    def checked_conditions(ids: Sequence[int], branch: str) -> Mapping[str, Tensor]:
        cond = check_named(conditioning, f"conditions of the branch {branch}", conditions(ids, branch))
        for name, value in cond.items():
            if value.dim() == 0 or len(value) != len(ids):
                what = f"gave {described(value)} as {name!r} of {len(ids)} images"
                raise conditioning.refused(what, "conditions have a row for each image")
        return cond

    model = copy.copy(found)
    model.call, model.decode, model.conditions = checked_call, checked_decode, checked_conditions
    return model


def _reference_images(call: Call, _: ModelSource, images: Callable[[], Tensor | None]) -> Tensor | None:
    found = images()
    if found is not None and (not isinstance(found, Tensor) or found.dtype != torch.uint8 or found.dim() != 4):
        raise call.refused(f"gave {described(found)} as real images", "real images are uint8 (N, C, H, W), or None")
    return found


CHECKS = {"load": _load, "fingerprint": check_fingerprint, "reference_images": _reference_images}
