"""A quantized denoiser from a folder, put together again with the full-precision weights that it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from ptqbench.api.folder import HOOK, MANIFEST, SMALL, read_manifest
from ptqbench.api.parts import Base, Parts, Report
from ptqbench.api.pieces import Piece, split
from ptqbench.api.quantized import Quantized
from ptqbench.errors import UserError
from ptqbench.fitting.hooks import KeptHook
from ptqbench.fitting.method import MethodFactory
from ptqbench.measuring.accounting import bit_ledger
from ptqbench.measuring.state_hash import state_hash
from ptqbench.plugin.component import Bound
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.names import role_words
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.packing import Packing, unpack
from ptqbench.quant.plan import Plan, Probe
from ptqbench.recipe.experiment import SiteChoice

T = TypeVar("T")


def load(folder: str | Path, model: nn.Module, *, plugins: Sequence[str | Path] = ()) -> Quantized:
    """The quantized denoiser of a folder that `Quantized.save` or `ptqbench export` wrote, bit for bit; `model` is the denoiser
    that it was made from, and stays as it is. `plugins` are single-file plugins that its quantizers need.

    Raises `UserError` for a folder that is no such thing, was cut short or changed, for another model than the one that was
    quantized, and for a quantizer's plugin that is not there or is another version.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    base, given = Base(**manifest["base"]), Base.of(model)
    if given != base:
        message = f"{folder} was made from another model: a {base}; this is a {given}"
        raise UserError(message, "load the full-precision weights that it was made from")
    manager = PluginManager(plugins)
    weights, activations = (_site(folder, manifest["quantizers"][key], manager) for key in ("weights", "activations"))
    timesteps = torch.tensor(
        manifest["timesteps"]["values"], dtype=getattr(torch, manifest["timesteps"]["dtype"]), device="cpu"
    )
    plan, probe = _as(Plan, manifest["plan"]), _as(Probe, manifest["probe"])
    q = QuantizedDenoiser(model, plan, MethodFactory(weights, activations), len(timesteps))
    state = _read(folder, manifest["tensors"])
    q.restore({name: tensor for name, tensor in state.items() if not name.startswith(HOOK)})
    q.quantize_activations(not activations.off)
    hooks = tuple(
        KeptHook(_bound(folder, key, manager), _below(f"{HOOK}{i}|", state)) for i, key in enumerate(manifest["hooks"])
    )
    ledger = bit_ledger(model, probe, plan, q, sum(tensor.numel() for hook in hooks for tensor in hook.tensors.values()))
    parts = Parts(base, probe, timesteps, weights, activations, hooks, manifest["run"])
    found = Quantized(q, parts, ledger, _as(Report, manifest["report"]))
    if found.report.state_hash != state_hash(q):
        raise UserError(
            f"{folder}: the quantizers here make other codes or grids of what was stored",
            f"use the plugins that the folder was made with; {MANIFEST} names them",
        )
    return found


def _site(folder: Path, key: Mapping[str, Any], manager: PluginManager) -> SiteChoice:
    quantizer, estimator = (_bound(folder, key[part], manager) for part in ("quantizer", "range"))
    return SiteChoice(
        key["bits"], key["per"], key["symmetric"], quantizer, estimator, key["steps"], each=key.get("each", False)
    )


def _bound(folder: Path, key: Mapping[str, Any], manager: PluginManager) -> Bound:
    """The component that a `Bound.key` names, as it is installed here."""
    what = f'{folder} needs the {role_words(key["role"])} "{key["name"]}" of the plugin "{key["plugin"]}"'
    remedy = "install the plugin, or give its file: plugins=[...]"
    try:
        record = manager.find(key["role"], f"{key['plugin']}/{key['name']}")
        options = record.component.options.model_validate_json(json.dumps(key["options"]))
    except UserError as error:
        raise UserError(f"{what}: {error.message}", remedy) from error
    except ValidationError as error:
        raise UserError(f"{what}, which takes other options here", remedy) from error
    if record.component.version != key["version"]:
        raise UserError(f"{what} in version {key['version']}; here it is version {record.component.version}", remedy)
    return manager.bind(record, options)


def _as(kind: type[T], data: Any) -> T:
    """What `dataclasses.asdict` and JSON made of a dataclass, as one again."""
    return TypeAdapter(kind).validate_json(json.dumps(data))


def _read(folder: Path, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a folder, unpacked."""
    packed = {name: _as(Packing, how) for name, how in tensors["packed"].items()}
    stored = load_file(folder / tensors["file"])
    stored |= split(stored.pop(SMALL), [_as(Piece, piece) for piece in tensors[SMALL]])
    nothing = torch.empty(0, dtype=torch.uint8, device="cpu")
    return stored | {name: unpack(stored.get(name, nothing), how) for name, how in packed.items()}


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
