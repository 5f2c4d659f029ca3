"""Calibration states: what a denoiser was called on while it sampled, as a value."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.errors import UserError
from ptqbench.sampling.calibrate import CalibrationSet
from ptqbench.sampling.rng import permutation, stream

_HINT = "give States(x, t, cond), or (x, t) or (x, t, cond): one row of each for every sample"


@dataclass(frozen=True)
class States:
    """N calibration samples: denoiser inputs `x` (N, ...), the timesteps `t` (N,) that they were seen at, and `cond`, further
    keyword arguments of the denoiser by name, each (N, ...).

    Take them from trajectories of the full-precision model: `record_states` does it while any sampler runs. `timesteps` (S,)
    are those of the sampling steps in the order of sampling; left out, they are the distinct values of `t` from the largest to
    the smallest. Raises `UserError` for lengths that differ, no samples, values that are not finite, or a `t` that is no
    sampling step's.
    """

    x: Tensor
    t: Tensor
    cond: Mapping[str, Tensor] = field(default_factory=dict)
    timesteps: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.cond, Mapping):
            raise UserError(f"calibration states: cond is {_kind(self.cond)}", f'name each condition: {{"y": y}}; {_HINT}')
        tensors = {"x": self.x, "t": self.t, **self.cond}
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor) or tensor.dim() == 0:
                raise UserError(f"calibration states: {name} is {_kind(tensor)}", _HINT)
        if len({len(tensor) for tensor in tensors.values()}) > 1 or self.t.dim() != 1:
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
            raise UserError(f"calibration states do not have a row for each sample: {shapes}", _HINT)
        if len(self.x) == 0:
            raise UserError("there are no calibration states", _HINT)
        if not bool(torch.isfinite(self.x).all()):
            raise UserError("calibration states are not finite", "look at the sampler that they come from")
        if not bool(torch.isin(self.t, self.sampling_timesteps).all()):
            raise UserError("some states are at no sampling step: their t is not in timesteps", "leave timesteps out")

    @classmethod
    def of(cls, data: States | Sequence[Any]) -> States:
        """The same, also from a tuple (x, t) or (x, t, cond)."""
        if isinstance(data, cls):
            return data
        if not isinstance(data, Sequence) or not 2 <= len(data) <= 3:
            raise UserError(f"calibration data is {_kind(data)}", _HINT)
        return cls(*data)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def sampling_timesteps(self) -> Tensor:
        """`timesteps`, or what stands for them where they were left out."""
        return self.t.unique().flip(0) if self.timesteps is None else self.timesteps

    def sample(self, count: int, seed: int = 0) -> States:
        """`count` of the samples, drawn without replacement. Raises `UserError` if there are fewer."""
        if not 1 <= count <= len(self):
            raise UserError(f"{count} of {len(self)} calibration states cannot be drawn", "record more, or ask for fewer")
        index = permutation(len(self), stream(seed, "states"))[:count]
        cond = {name: value[index] for name, value in self.cond.items()}
        return States(self.x[index], self.t[index], cond, self.sampling_timesteps)

    def as_set(self) -> CalibrationSet:
        """As the stages know it: float32 on the host, every sample with its sampling step, each its own trajectory."""
        t = self.t.detach().cpu()
        step = (t[:, None] == self.sampling_timesteps.cpu()[None, :]).int().argmax(1)
        own = torch.arange(len(self), dtype=torch.int64, device="cpu")
        # Each row of conditions is that of a trajectory in its only branch.
        host = {name: value.detach().cpu()[:, None] for name, value in self.cond.items()}
        cond = {name: value.float() if value.is_floating_point() else value for name, value in host.items()}
        return CalibrationSet(self.x.detach().cpu().float(), t, step, own, torch.zeros_like(own), cond)


class StatesRecorder:
    """What `record_states` gives; `states()` is what was seen so far."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []

    def states(self) -> States:
        """All rows of all calls; arguments that were not there in every call, or have no row for each sample, are left out.

        Raises `UserError` if there was no call.
        """
        if not self.calls:
            raise UserError("the denoiser was not called while its states were recorded", "run a sampler inside the block")
        x, t = (torch.cat([call[i] for call in self.calls]) for i in (0, 1))  # type: ignore[misc]
        names = set.intersection(*(set(call[2]) for call in self.calls))
        cond = {name: torch.cat([call[2][name] for call in self.calls]) for name in sorted(names)}
        order = dict.fromkeys(t.tolist())
        return States(x, t, cond, torch.tensor([*order], dtype=t.dtype, device="cpu"))

    def see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A hook before `module` runs."""
        (_, x), (_, t), *rest = named_arguments(module, args, kwargs).items()
        rows, what = timesteps_of(t, torch.device("cpu")), type(module).__name__
        if any(name.startswith("*") and isinstance(value, Tensor) for name, value in rest):
            message = f"{what} was given a condition by its place among *args, where it has no name"
            raise UserError(message, "call the denoiser as model(x, t, name=value)")
        if len(rows) not in (1, len(x)):
            raise UserError(
                f"{what} was called with {_kind(x)} and then {_kind(t)}, which is no timestep for all rows or for each",
                "a denoiser is called as model(x, t, **cond): wrap one whose arguments have another order",
            )
        rows = rows.expand(len(x))
        cond = {name: v.detach().cpu() for name, v in rest if isinstance(v, Tensor) and v.dim() and len(v) == len(x)}
        self.calls.append((x.detach().cpu(), rows, cond))


def named_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a module's call by name, in the order of its signature, however they were given; "*0", "*1" ... are
    those that have none."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"*{i}": one for i, one in enumerate(value)}
        else:
            found[name] = value
    return found


def timesteps_of(t: Tensor | float, device: torch.device) -> Tensor:
    """The timesteps of a call on a device: one for all rows (1,), or (B,)."""
    if isinstance(t, Tensor):
        return t.detach().to(device).reshape(-1)
    return torch.tensor([t], dtype=torch.int64 if isinstance(t, int) else torch.float32, device=device)


@contextlib.contextmanager
def record_states(denoiser: nn.Module) -> Iterator[StatesRecorder]:
    """Remember on the host what `denoiser` is called on in this block, whatever sampler or pipeline runs there."""
    recorder = StatesRecorder()
    handle = denoiser.register_forward_pre_hook(recorder.see, with_kwargs=True)
    try:
        yield recorder
    finally:
        handle.remove()


def _kind(value: object) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
