"""A bundle is a network on disk: NAME.safetensors, and NAME.json with its configuration and the weights' checksum."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ptqbench.errors import UserError

SHIPPED = Path(__file__).parent / "weights"
DENOISER = "denoiser"
CONDITIONAL = "conditional"
TRANSFORMER = "dit"
LATENT = "latent"
CLASSIFIER = "classifier"
_CHECKSUM = "weights_sha256"


def folder_of(option: str) -> Path:
    """The folder that a component's `folder` option names; empty means the shipped one."""
    return Path(os.path.expanduser(option)) if option else SHIPPED


def fingerprint(folder: Path, name: str) -> str:
    """SHA-256 (hex) over the bundle's weights and configuration. Raises `UserError` where a file is missing."""
    digest = hashlib.sha256()
    for path in (_weights(folder, name), _config(folder, name)):
        content = _read(path, folder)
        digest.update(f"{path.name}:{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The bundle's configuration. Raises `UserError` if the file is missing or is no JSON object."""
    path = _config(folder, name)
    try:
        config = json.loads(_read(path, folder))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}", _hint(folder)) from error
    if not isinstance(config, dict) or not isinstance(config.get("network"), dict):
        raise UserError(f"{path} does not describe a network", _hint(folder))
    return config


def load_weights(network: nn.Module, folder: Path, name: str) -> nn.Module:
    """Put the bundle's weights into `network`; returns it in eval mode with gradients off.

    Raises `UserError` if the file is missing, differs from the checksum in the configuration, or does not fit.
    """
    path = _weights(folder, name)
    found = hashlib.sha256(_read(path, folder)).hexdigest()
    expected = read_config(folder, name).get(_CHECKSUM)
    if found != expected:
        raise UserError(
            f"{path} is not the file that {name}.json was written for: its SHA-256 is {found}, expected {expected}",
            _hint(folder),
        )
    try:
        network.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} does not fit the network in {name}.json: {error}", _hint(folder)) from error
    return network.eval().requires_grad_(False)


def write(network: nn.Module, config: dict[str, Any], folder: Path, name: str) -> None:
    """Write a bundle: the network's weights, and `config` (with the key "network") plus their checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _weights(folder, name)
    content = save({key: value.contiguous() for key, value in network.state_dict().items()})
    path.write_bytes(content)  # safetensors' own save_file makes files that only their owner can read
    checksum = hashlib.sha256(content).hexdigest()
    text = json.dumps({_CHECKSUM: checksum, **config}, indent=2)
    _config(folder, name).write_text(text + "\n", encoding="utf-8")


def _weights(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _config(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _hint(folder: Path) -> str:
    if folder == SHIPPED:
        return "restore the shipped files: reinstall ptqbench, or check the folder ptqbench_digits/weights out again"
    return f"write the files anew with `ptqbench digits train --out {folder}`, or leave `folder` empty"


def _read(path: Path, folder: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", _hint(folder)) from error
