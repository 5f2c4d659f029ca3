"""A quantized denoiser as a folder: packed codes and grids as safetensors, everything else as JSON. Nothing in it is code.

`manifest.json.gz` has the plan, what the probe saw, the report with the method's table, the chosen quantizers, versions, the
hash of the full-precision weights, and how each tensor is packed (`ptqbench.quant.packing`). `tensors.safetensors` has the
tensors under the names of `QuantizedDenoiser.export`: "LAYER|w.PART.codes", "LAYER|w.PART.scale", "LAYER|a.PART.scale" (K, G)
for K groups of sampling steps, "ATTENTION|a.SITE.scale" and so on, and those of hooks as "|hook|NUMBER|NAME"; those of few
bytes lie in one, "|small|". What stays in floating point is in neither: it is taken from the full-precision weights, without
which a folder cannot be used.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ptqbench.api.parts import Parts, Report
from ptqbench.api.pieces import join
from ptqbench.digest import file_sha256
from ptqbench.errors import UserError, system_words, why_unreadable
from ptqbench.measuring.state_hash import state_hash
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.packing import pack
from ptqbench.stage.machine import computing_packages
from ptqbench.version import __version__

FORMAT, SCHEMA = "ptqbench quantized denoiser", 2
MANIFEST, TENSORS = "manifest.json.gz", "tensors.safetensors"
FIRST = "manifest.json"
"""What schema 1 called its manifest."""

HOOK, SMALL = "|hook|", "|small|"
FEW = 4096
"""Tensors of fewer bytes lie in one: a hundred bytes of the file's header for each would be a twentieth of a small network."""


def write(folder: Path, q: QuantizedDenoiser, parts: Parts, report: Report) -> Path:
    """Write a quantized denoiser; the files of an earlier one are replaced. Returns the folder.

    Raises `UserError` for one whose codes or grids are not the report's any more, which nobody could load.
    """
    if report.state_hash != state_hash(q):
        raise UserError(
            "the codes or grids are not those that the report is of: something has changed them since, .half() for example",
            "save the denoiser as it was made; what ptqbench.load gives can be converted",
        )
    stored, packings = {}, {}
    for name, tensor in _state(q, parts).items():
        if (packed := pack(tensor)) is None:
            stored[name] = tensor.detach().cpu().contiguous()
            continue
        packings[name] = dataclasses.asdict(packed[1])
        if packed[0].numel():  # values that are all the same need no byte, and no line in the file's header
            stored[name] = packed[0]
    small = {name: tensor for name, tensor in stored.items() if tensor.nbytes < FEW}
    together, pieces = join(small)
    content = save({SMALL: together} | {name: tensor for name, tensor in stored.items() if name not in small})
    how = {"packed": packings, SMALL: [dataclasses.asdict(piece) for piece in pieces]}
    manifest = _manifest(q, parts, report, {"file": TENSORS, "sha256": hashlib.sha256(content).hexdigest(), **how})
    manifest["digest"] = _digest(manifest)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in manifest.items())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # No temporary names: what is cut short has another hash than the manifest says, or no manifest.
        (folder / MANIFEST).unlink(missing_ok=True)
        (folder / TENSORS).write_bytes(content)  # safetensors' own save_file makes files that only their owner can read
        (folder / MANIFEST).write_bytes(gzip.compress(f"{{\n{lines}\n}}\n".encode(), mtime=0))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {system_words(error)}", "make room, or name another folder") from error
    return folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises `UserError` if there is none, or if it or the tensors are not what was written."""
    hint = "give a folder that Quantized.save or `ptqbench export` wrote"
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / FIRST).is_file():
            raise UserError(
                f"{folder} has a {FIRST}, of schema 1; this version reads {MANIFEST}, of schema {SCHEMA}",
                "export the cell again, or load the folder with the version that wrote it",
            )
        raise UserError(f"{folder} has no {MANIFEST}", hint)
    again = "it was cut short or changed: take the folder again from where it came"
    try:
        manifest = json.loads(gzip.decompress(path.read_bytes()))
        kind, schema, digest = manifest["format"], manifest["schema"], manifest.pop("digest")
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {why_unreadable(error)}", again) from error
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


def _manifest(q: QuantizedDenoiser, parts: Parts, report: Report, tensors: Mapping[str, Any]) -> dict[str, Any]:
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
        "tensors": tensors,
    }


def _digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a manifest's content, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
