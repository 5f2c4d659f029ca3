"""Quantizing any denoiser by any method, without a recipe: the stages of a run on samples that the caller gives."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.api.parts import Base, Parts, Report
from ptqbench.api.quantized import Quantized
from ptqbench.api.states import States
from ptqbench.errors import CellFailedError, UserError
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.fitting.subject import Subject
from ptqbench.measuring.accounting import BitLedger, bit_ledger, float_bytes
from ptqbench.measuring.state_hash import state_hash
from ptqbench.plugin.classes import check_classes
from ptqbench.plugin.manager import PluginManager
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Probe
from ptqbench.quant.probe import probe_denoiser
from ptqbench.recipe.describe import describe_method
from ptqbench.recipe.experiment import Method
from ptqbench.recipe.single import load_method
from ptqbench.sampling.calibrate import CalibrationSet
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.cache import Costs
from ptqbench.stage.counting import count_denoiser
from ptqbench.stage.scratch import ScratchCache
from ptqbench.stage.stages import Tell

Predict = Callable[[CalibrationSet, QuantizedDenoiser | None, Tensor], Tensor]


def quantize(
    model: nn.Module,
    *,
    method: str | Mapping[str, Any],
    bits: str,
    data: States | Sequence[Any],
    set: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch: int = 64,
    threads: int | None = None,
    plugins: Sequence[str | Path] = (),
    progress: Tell | None = None,
) -> Quantized:
    """A quantized copy of a denoiser, which stays as it is.

    `model(x, t, **cond)` returns a tensor or something with `.sample`; its parameters are float32. `method` is a preset's name
    ("tfmq-dm") or a table as a recipe's [methods.NAME] has it, `bits` a label such as "W4A8", and `set` changes keys of the
    method by path ("reconstruction.iterations"). `data` are calibration samples (see `States`), used as they are: the method's
    own choice of samples needs trajectories, which only a recipe's run has. `seed` names the random streams. `batch` samples
    are run at a time, on `threads` CPU threads (as many as torch has now, if left out); both decide the last bits of numbers.
    `plugins` are single-file plugins to load as well; `progress` is told what is done and how far it is in [0, 1].

    Raises `UserError`: a method that is none or cannot be used so (`RecipeError`), data that does not fit (`CellFailedError`
    where a stage finds that out).
    """
    states = States.of(data)
    _check_model(model)
    manager = PluginManager(plugins)
    chosen = load_method(method, bits, len(states.sampling_timesteps), overrides=set, manager=manager)
    check_classes(chosen.components())
    _check_method(chosen)
    costs = Costs()
    with arithmetic(threads or torch.get_num_threads()), _evaluating(model):
        subject = _subject(model, states, batch)
        quantizer = MethodQuantizer(subject, chosen, seed, costs, progress or (lambda *_: None))
        _require_calls(quantizer.run(stages=1)[0], subject)
        q, _ = quantizer.run()
        ledger = bit_ledger(model, subject.probe, q.plan, q)
    report = report_of(quantizer, q, ledger, float_bytes(model), _notes(chosen))
    parts = Parts(Base.of(model), subject.probe, subject.timesteps, chosen.weights, chosen.activations)
    return Quantized(q, parts, ledger, report)


def report_of(
    quantizer: MethodQuantizer, q: QuantizedDenoiser, ledger: BitLedger, full_precision_bytes: int, notes: tuple[str, ...] = ()
) -> Report:
    """The report of a finished quantization."""
    method = quantizer.method
    return Report(
        name=method.name,
        bits=method.bits,
        seed=quantizer.seed,
        method=describe_method(method),
        budget=quantizer.budget(),
        bytes=ledger.bytes,
        full_precision_bytes=full_precision_bytes,
        state_hash=state_hash(q),
        fits={phase: entry.load_json("units.json") for phase, entry in quantizer.fitted.items()},
        seconds={stage: cost.seconds for stage, cost in quantizer.costs.stages.items()},
        notes=notes,
    )


def _subject(model: nn.Module, states: States, batch: int) -> Subject:
    calibration = states.as_set()
    device = next(model.parameters()).device
    return Subject(
        denoiser=model,
        probe=_probe(model, calibration, len(states.sampling_timesteps), device),
        timesteps=states.sampling_timesteps.cpu(),
        calibration=lambda: calibration,
        calibration_key="given",
        predict=_predict(device, model),
        denoising_error=_no_trajectories,
        batch=batch,
        device=device,
        cache=ScratchCache(),
        key=[],
    )


def _probe(model: nn.Module, calibration: CalibrationSet, steps: int, device: torch.device) -> Probe:
    x, t, cond = _inputs(calibration, calibration.trajectory[:2], device)
    return dataclasses.replace(probe_denoiser(model, lambda: model(x, t, **cond), x), steps=steps)


def _inputs(calibration: CalibrationSet, index: Tensor, device: torch.device) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    cond = {name: value.to(device) for name, value in calibration.conditions(index).items()}
    return calibration.x[index].to(device), calibration.t[index].to(device), cond


def _require_calls(q: QuantizedDenoiser, subject: Subject) -> None:
    """Raises `CellFailedError` for a copy that computes with the original's layers: its own would be rounded for nothing.

    `q` has no more than the ranges of its weights, so that this is known before anything is fitted.
    """
    calibration = subject.calibration()
    x, t, cond = _inputs(calibration, calibration.trajectory[:2], subject.device)
    q.quantize_activations(False)
    if lost := q.uncalled(lambda: q.module(x, t, **cond)):
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise CellFailedError(
            f"the quantized copy never calls its own {', '.join(lost[:3])}{more}",
            "a forward or a hook that is a function around the model's modules is not copied with them: make it a method of a "
            "class, or quantize before it is put in",
        )


def _predict(device: torch.device, model: nn.Module) -> Predict:
    def predict(calibration: CalibrationSet, q: QuantizedDenoiser | None, index: Tensor) -> Tensor:
        # Counted first, because a recording may end the pass early.
        count_denoiser(len(index))
        if q is not None:
            q.context.step = calibration.step[index].to(device)
        x, t, cond = _inputs(calibration, index, device)
        return output_of((model if q is None else q.module)(x, t, **cond))

    return predict


def output_of(found: Any) -> Tensor:
    """The tensor that a denoiser returned, bare or as `.sample`. Raises `UserError` for anything else."""
    tensor = getattr(found, "sample", found)
    if not isinstance(tensor, Tensor):
        raise UserError(f"the model returned {type(found).__name__}", "a denoiser returns a tensor, or something with .sample")
    return tensor


def _no_trajectories() -> Tensor:
    raise CellFailedError(
        "the weighter asks for full precision's denoising error, which needs clean samples, and there are states only",
        "choose another weighter, or run the method in a recipe",
    )


def _check_model(model: nn.Module) -> None:
    tensors = [p for p in model.parameters() if p.is_floating_point()]
    if not tensors:
        raise UserError(f"{type(model).__name__} has no parameters to quantize", "give the denoiser itself")
    kinds = {str(p.dtype).removeprefix("torch.") for p in tensors}
    if kinds != {"float32"}:
        raise UserError(f"the model's parameters are {', '.join(sorted(kinds))}", "grids are fitted in float32: model.float()")


def _check_method(method: Method) -> None:
    if method.network is not None:
        raise UserError(f"{method.name} leaves everything to {method.network.name}", "run it in a recipe, or call the library")
    if method.hooks:
        names = ", ".join(hook.name for hook in method.hooks)
        raise UserError(
            f"{method.name} corrects the sampler ({names}), which is fitted on whole trajectories",
            "run it in a recipe and take the cell (Run.quantized), or leave that part out: set={'hooks': []}",
        )


def _notes(method: Method) -> tuple[str, ...]:
    return (f"the calibration samples were given: the sampler {method.sampler.name!r} chose none",)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards each of its modules is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
