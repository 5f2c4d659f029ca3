"""Where the parts of a saved pipeline lie, and which of its files count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqbench.errors import UserError

PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "LDMPipeline", "LatentDiffusionUncondPipeline")
"""What the `_class_name` of a model_index.json may be; the last is an old name of LDMPipeline."""
LATENT = PIPELINES[3:]
DENOISERS = ("UNet2DModel",)
AUTOENCODERS = ("VQModel", "AutoencoderKL")

CONFIG, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"
VARIANT = "diffusion_pytorch_model.*.safetensors"
"""What `save_pretrained(variant="fp16")` writes, and its like."""
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `UserError` if it cannot be read or is something else."""
    hint = "save the pipeline again with `save_pretrained`"
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", hint) from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}", hint) from error
    if not isinstance(data, dict):
        raise UserError(f"{path} does not hold a JSON object", hint)
    return data


@dataclass(frozen=True)
class Network:
    """A network on disk: its folder, its configuration and the files that hold its weights."""

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]

    @classmethod
    def at(cls, folder: Path, classes: tuple[str, ...]) -> Network:
        """Raises `UserError` unless the folder holds one of `classes` with weights as safetensors."""
        config = read_json(folder / CONFIG)
        name = config.get("_class_name")
        if name not in classes:
            raise UserError(f"{folder / CONFIG} describes {name}", f"supported here: {', '.join(classes)}")
        return cls(folder, config, _weights(folder, str(name)))

    @property
    def class_name(self) -> str:
        return str(self.config["_class_name"])

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.folder / CONFIG, *self.weights)


def _weights(folder: Path, class_name: str) -> tuple[Path, ...]:
    if (folder / SHARDS).is_file():
        shards = read_json(folder / SHARDS).get("weight_map")
        names = sorted(set(shards.values())) if isinstance(shards, dict) else []
        files = (folder / SHARDS, *(folder / str(name) for name in names))
    else:
        files = (folder / WEIGHTS,)
    missing = [file.name for file in files if not file.is_file()]
    if not missing:
        return files
    if variants := sorted(path.name for path in folder.glob(VARIANT)):
        kind = variants[0].split(".")[1]
        raise UserError(
            f"{folder} holds weights in another precision only: {', '.join(variants)}",
            "save them once under the plain name, which float32 is read from: "
            f'python -c "from diffusers import {class_name} as M; '
            f"M.from_pretrained('{folder}', variant='{kind}').float().save_pretrained('{folder}')\"",
        )
    if any(path for pattern in PICKLED for path in folder.glob(pattern)):
        raise UserError(
            f"{folder} holds weights as pickle files only, which can run code when they are read",
            "convert a checkpoint that you trust, once: "
            f'python -c "from diffusers import {class_name} as M; '
            f"M.from_pretrained('{folder}', use_safetensors=False).save_pretrained('{folder}')\"",
        )
    raise UserError(f"{folder} has no {', '.join(missing)}", "save the pipeline again with `save_pretrained`")


@dataclass(frozen=True)
class PipelineFolder:
    """A saved pipeline whose parts are all there: denoiser, scheduler and, for latent diffusion, an autoencoder."""

    root: Path
    denoiser: Network
    scheduler: Path
    autoencoder: Network | None

    @classmethod
    def at(cls, root: Path, unet: str = "unet") -> PipelineFolder:
        """Raises `UserError` if the pipeline is of another kind, or a part is missing or unusable."""
        if not (root / INDEX).is_file():
            raise UserError(
                f"{root} is not a saved pipeline: it has no {INDEX}", "name the folder that `save_pretrained` wrote"
            )
        name = read_json(root / INDEX).get("_class_name")
        if name not in PIPELINES:
            raise UserError(f"{root} holds a {name}, which is not supported", f"supported: {', '.join(PIPELINES[:4])}")
        return cls(
            root,
            Network.at(_part(root, unet, CONFIG), DENOISERS),
            _part(root, "scheduler", SCHEDULER) / SCHEDULER,
            Network.at(_part(root, "vqvae", CONFIG), AUTOENCODERS) if name in LATENT else None,
        )

    @property
    def files(self) -> dict[str, Path]:
        """Every file that the model depends on, by a name that does not depend on where the folder lies."""
        named = {INDEX: self.root / INDEX, f"scheduler/{SCHEDULER}": self.scheduler}
        for part, network in (("denoiser", self.denoiser), ("autoencoder", self.autoencoder)):
            named |= {f"{part}/{file.name}": file for file in (network.files if network else ())}
        return named


def _part(root: Path, name: str, config: str) -> Path:
    """The folder of a part; early pipelines such as google/ddpm-cifar10-32 keep denoiser and scheduler at the root."""
    if (root / name / config).is_file():
        return root / name
    if name in ("unet", "scheduler") and (root / config).is_file():
        return root
    others = sorted(path.parent.name for path in root.glob(f"*/{config}"))
    there = f"; subfolders there: {', '.join(others)}" if others else ""
    raise UserError(f"{root} has no {name}/{config}", f"name a complete pipeline folder{there}")
