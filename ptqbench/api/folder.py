"""A quantized denoiser as a folder: packed codes and grids as safetensors, everything else as JSON. Nothing in it is code.

`manifest.json` has the plan, what the probe saw, the report with the method's table, the chosen quantizers, versions, the
hash of the full-precision weights, and how each tensor is packed (`ptqbench.quant.packing`). `tensors.safetensors` has the
tensors under the names of `QuantizedDenoiser.export`: "LAYER|w.PART.codes", "LAYER|w.PART.scale", "LAYER|a.PART.scale" (K, G)
for K groups of sampling steps, "ATTENTION|a.SITE.scale" and so on, and those of hooks as "|hook|NUMBER|NAME". What stays in
floating point is in neither: it is taken from the full-precision weights, without which a folder cannot be used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ptqbench.api.parts import Parts, Report
from ptqbench.digest import file_sha256
from ptqbench.errors import UserError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.packing import pack
from ptqbench.stage.machine import computing_packages
from ptqbench.version import __version__

FORMAT, SCHEMA = "ptqbench quantized denoiser", 1
MANIFEST, TENSORS = "manifest.json", "tensors.safetensors"
HOOK = "|hook|"


def write(folder: Path, q: QuantizedDenoiser, parts: Parts, report: Report) -> Path:
    """Write a quantized denoiser; the files of an earlier one are replaced. Returns the folder."""
    stored, packings = {}, {}
    for name, tensor in _state(q, parts).items():
        if (packed := pack(tensor)) is None:
            stored[name] = tensor.detach().cpu().contiguous()
            continue
        packings[name] = dataclasses.asdict(packed[1])
        if packed[0].numel():  # values that are all the same need no byte, and no line in the file's header
            stored[name] = packed[0]
    folder.mkdir(parents=True, exist_ok=True)
    # No temporary names: what is cut short has another hash than the manifest says, or no manifest.
    (folder / MANIFEST).unlink(missing_ok=True)
    try:
        save_file(stored, folder / TENSORS)
    except SafetensorError as error:
        raise UserError(f"{folder / TENSORS} cannot be written: {error}", "make room, or name another folder") from error
    manifest = _manifest(q, parts, report, packings, file_sha256(folder / TENSORS))
    manifest["digest"] = _digest(manifest)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in manifest.items())
    (folder / MANIFEST).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises `UserError` if there is none, or if it or the tensors are not what was written."""
    hint = "give a folder that Quantized.save or `ptqbench export` wrote"
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} has no {MANIFEST}", hint)
    again = "it was cut short or changed: take the folder again from where it came"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        kind, schema, digest = manifest["format"], manifest["schema"], manifest.pop("digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}", again) from error
    if (kind, schema) != (FORMAT, SCHEMA):
        raise UserError(f"{path} is {kind!r}, schema {schema}; this version reads {FORMAT!r}, schema {SCHEMA}", hint)
    if digest != _digest(manifest):
        raise UserError(f"{path} is not what was written: its digest differs", again)
    tensors = folder / manifest["tensors"]["file"]
    if not tensors.is_file():
        raise UserError(f"{folder} has no {tensors.name}", again)
    if file_sha256(tensors) != manifest["tensors"]["sha256"]:
        raise UserError(f"{tensors} is not what was written: its SHA-256 differs from the manifest's", again)
    return manifest


def _state(q: QuantizedDenoiser, parts: Parts) -> dict[str, Tensor]:
    """Everything that a folder keeps of tensors."""
    hooks = enumerate(parts.hooks)
    return q.export() | {f"{HOOK}{i}|{name}": tensor for i, hook in hooks for name, tensor in hook.tensors.items()}


def _manifest(q: QuantizedDenoiser, parts: Parts, report: Report, packings: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "versions": {"ptqbench": __version__, **computing_packages()},
        "base": dataclasses.asdict(parts.base),
        "run": parts.run,
        "timesteps": {"dtype": str(parts.timesteps.dtype).removeprefix("torch."), "values": parts.timesteps.tolist()},
        "quantizers": {"weights": parts.weights.key, "activations": parts.activations.key},
        "hooks": [hook.chosen.key for hook in parts.hooks],
        "report": dataclasses.asdict(report),
        "plan": dataclasses.asdict(q.plan),
        "probe": dataclasses.asdict(dataclasses.replace(parts.probe, calls=())),
        "tensors": {"file": TENSORS, "sha256": sha256, "packed": packings},
    }


def _digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a manifest's content, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
