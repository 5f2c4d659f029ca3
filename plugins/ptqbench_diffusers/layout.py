"""Where the parts of a saved pipeline lie, and which of its files count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqbench.errors import UserError

UNETS = ("UNet2DModel", "UNet2DConditionModel")
EARLY = "Transformer2DModel"
"""What both of these were called when weights of DiT and of PixArt-alpha were published."""
DITS = ("DiTTransformer2DModel", EARLY)
PIXART = ("PixArtTransformer2DModel", EARLY)
SD3 = ("SD3Transformer2DModel",)
FLUX = ("FluxTransformer2DModel",)
CLIP, CLIP_PROJECTION, T5 = "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"
AUTOENCODERS = ("VQModel", "AutoencoderKL")
EMBEDDERS = ("ClassEmbedder",)


@dataclass(frozen=True)
class Kind:
    """What a pipeline is made of: its denoiser's subfolder and classes, its autoencoder's subfolder ("" in pixel space), the
    classes of its text encoders, whether it was saved without one of them (`lacks`) at times, and whether it is a `flow`."""

    denoiser: str
    classes: tuple[str, ...]
    autoencoder: str = ""
    text: tuple[str, ...] = ()
    lacks: str = ""
    flow: bool = False


_PIXELS = Kind("unet", UNETS[:1])
_LATENT = Kind("unet", UNETS, "vqvae")
_PIXART = Kind("transformer", PIXART, "vae", (T5,))
PIPELINES = {
    "DDPMPipeline": _PIXELS,
    "DDIMPipeline": _PIXELS,
    "PNDMPipeline": _PIXELS,
    "LDMPipeline": _LATENT,
    "DiTPipeline": Kind("transformer", DITS, "vae"),
    "StableDiffusionPipeline": Kind("unet", UNETS[1:], "vae", (CLIP,)),
    "StableDiffusionXLPipeline": Kind("unet", UNETS[1:], "vae", (CLIP, CLIP_PROJECTION)),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": _PIXART,
    "StableDiffusion3Pipeline": Kind("transformer", SD3, "vae", (CLIP_PROJECTION, CLIP_PROJECTION, T5), lacks=T5, flow=True),
    "FluxPipeline": Kind("transformer", FLUX, "vae", (CLIP, T5), flow=True),
}
"""What the `_class_name` of a model_index.json may be."""
_EARLY = {"LatentDiffusionUncondPipeline": "LDMPipeline"}

CONFIG, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
WEIGHTS, TEXT_WEIGHTS = "diffusion_pytorch_model", "model"
"""How files with weights begin in diffusers, and in transformers."""
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
    """A network on disk: its folder, its configuration, the files that hold its weights, and their variant ("fp16")."""

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    variant: str = ""

    @classmethod
    def at(cls, folder: Path, classes: tuple[str, ...], variant: str = "", stem: str = WEIGHTS) -> Network:
        """Raises `UserError` unless the folder holds one of `classes` with weights as safetensors.

        The variant's weights are taken where there are some, and the plain ones elsewhere.
        """
        config = read_json(folder / CONFIG)
        name = config.get("_class_name") or next(iter(config.get("architectures") or ()), None)
        if name not in classes:
            raise UserError(f"{folder / CONFIG} describes {name}", f"supported here: {', '.join(classes)}")
        weights = _weights(folder, str(name), variant, stem) if variant else ()
        return cls(folder, config, weights or _weights(folder, str(name), "", stem), variant if weights else "")

    @property
    def class_name(self) -> str:
        """The class that loads it."""
        name = str(self.config.get("_class_name"))
        if name != EARLY:
            return name
        return PIXART[0] if self.config.get("norm_type") == "ada_norm_single" else DITS[0]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.folder / CONFIG, *self.weights)


def _weights(folder: Path, class_name: str, variant: str, stem: str) -> tuple[Path, ...]:
    """The files of a folder's weights: for a variant, () if there are none; else raises `UserError`."""
    middle = f".{variant}" if variant else ""
    plain = f"{stem}{middle}.safetensors"
    index = folder / f"{stem}.safetensors.index{middle}.json"
    if index.is_file():
        shards = read_json(index).get("weight_map")
        names = sorted(set(shards.values())) if isinstance(shards, dict) else []
        files = (index, *(folder / str(name) for name in names))
    else:
        files = (folder / plain,)
    missing = [file.name for file in files if not file.is_file()]
    if not missing:
        return files
    if variant and missing == [plain]:
        return ()
    raise _missing(folder, class_name, stem, missing)


def _missing(folder: Path, class_name: str, stem: str, missing: list[str]) -> UserError:
    """What to do about weights that are not there, by what is there instead."""
    package = "diffusers" if stem == WEIGHTS else "transformers"
    convert = f"python -c \"from {package} import {class_name} as M; M.from_pretrained('{folder}'"
    if variants := sorted(path.name for path in folder.glob(f"{stem}.*.safetensors")):
        kind = variants[0].split(".")[1]
        return UserError(
            f"{folder} holds weights in another precision only: {', '.join(variants)}",
            f'set model.variant = "{kind}", or save them once under the plain name: '
            f"{convert}, variant='{kind}').float().save_pretrained('{folder}')\"",
        )
    if any(path for pattern in PICKLED for path in folder.glob(pattern)):
        return UserError(
            f"{folder} holds weights as pickle files only, which can run code when they are read",
            f"convert a checkpoint that you trust, once: {convert}, use_safetensors=False).save_pretrained('{folder}')\"",
        )
    return UserError(f"{folder} has no {', '.join(missing)}", "save the pipeline again with `save_pretrained`")


@dataclass(frozen=True)
class Text:
    """A text encoder, and its tokenizer's folder."""

    encoder: Network
    tokenizer: Path

    @property
    def files(self) -> dict[str, Path]:
        """Every file, by a name that does not depend on where the folder lies."""
        files = [*self.encoder.files, *(file for file in sorted(self.tokenizer.iterdir()) if file.is_file())]
        return {f"{file.parent.name}/{file.name}": file for file in files}


@dataclass(frozen=True)
class PipelineFolder:
    """A saved pipeline whose parts are all there: denoiser, scheduler, and where it has them an autoencoder, an embedder of
    classes, text encoders. `index` is its model_index.json, `name` the pipeline's class. `size` are pixels of an image's side,
    where it is chosen and not the denoiser's."""

    root: Path
    index: dict[str, Any]
    denoiser: Network
    scheduler: Path
    autoencoder: Network | None = None
    embedder: Network | None = None
    texts: tuple[Text, ...] = ()
    flow: bool = False
    size: int | None = None

    @classmethod
    def at(cls, root: Path, unet: str = "", variant: str = "") -> PipelineFolder:
        """Raises `UserError` if the pipeline is of another kind, or a part is missing or unusable."""
        if not (root / INDEX).is_file():
            raise UserError(
                f"{root} is not a saved pipeline: it has no {INDEX}", "name the folder that `save_pretrained` wrote"
            )
        index = read_json(root / INDEX)
        name = str(index.get("_class_name"))
        kind = PIPELINES.get(_EARLY.get(name, name))
        if kind is None:
            raise UserError(f"{root} holds a {name}, which is not supported", f"supported: {', '.join(PIPELINES)}")
        denoiser = Network.at(_part(root, unet or kind.denoiser, CONFIG), kind.classes, variant)
        if variant and not denoiser.variant:
            raise UserError(f"{denoiser.folder} has no weights of the variant {variant!r}", "leave model.variant out")
        return cls(
            root,
            index,
            denoiser,
            _part(root, "scheduler", SCHEDULER) / SCHEDULER,
            Network.at(_part(root, kind.autoencoder, CONFIG), AUTOENCODERS, variant) if kind.autoencoder else None,
            _embedder(root, denoiser, kind),
            tuple(_text(root, i, name, variant) for i, name in enumerate(kind.text) if not _left_out(index, kind, i)),
            kind.flow,
        )

    @property
    def name(self) -> str:
        """The class of the pipeline."""
        return str(self.index["_class_name"])

    @property
    def files(self) -> dict[str, Path]:
        """Every file that the model depends on, by a name that does not depend on where the folder lies."""
        named = {INDEX: self.root / INDEX, f"scheduler/{SCHEDULER}": self.scheduler}
        for part, network in (("denoiser", self.denoiser), ("autoencoder", self.autoencoder), (EMBEDDER, self.embedder)):
            named |= {f"{part}/{file.name}": file for file in (network.files if network else ())}
        for text in self.texts:
            named |= text.files
        return named


EMBEDDER = "class_embedder"
"""The subfolder of a latent diffusion's embedder of classes."""


def _embedder(root: Path, denoiser: Network, kind: Kind) -> Network | None:
    """A UNet that attends to a context gets it from a text encoder, or from an embedder of classes."""
    if kind.text or denoiser.class_name != UNETS[1]:
        return None
    if not (root / EMBEDDER / CONFIG).is_file():
        raise UserError(
            f"{denoiser.folder} is a {UNETS[1]}, which attends to a context, and the pipeline has no {EMBEDDER} to make one",
            f"put the checkpoint's embedder of classes into {root / EMBEDDER} (see the plugin's README)",
        )
    return Network.at(root / EMBEDDER, EMBEDDERS)


def _left_out(index: dict[str, Any], kind: Kind, number: int) -> bool:
    """Whether a pipeline says that it was saved without a text encoder that it can do without."""
    entry = index.get(f"text_encoder{_suffix(number)}")
    return kind.text[number] == kind.lacks and (entry is None or entry == [None, None])


def _suffix(number: int) -> str:
    return f"_{number + 1}" if number else ""


def _text(root: Path, number: int, class_name: str, variant: str) -> Text:
    """The text encoder of a class, and its tokenizer: text_encoder and tokenizer, text_encoder_2 and tokenizer_2, and so on."""
    suffix = _suffix(number)
    encoder = Network.at(_part(root, f"text_encoder{suffix}", CONFIG), (class_name,), variant, TEXT_WEIGHTS)
    tokenizer = root / f"tokenizer{suffix}"
    if not any((tokenizer / name).is_file() for name in VOCABULARIES):
        raise UserError(f"{root} has no {tokenizer.name}/{VOCABULARIES[0]}", "name a complete pipeline folder")
    return Text(encoder, tokenizer)


VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")
"""The files that may hold a tokenizer's vocabulary."""


def _part(root: Path, name: str, config: str) -> Path:
    """The folder of a part; early pipelines such as google/ddpm-cifar10-32 keep denoiser and scheduler at the root."""
    if (root / name / config).is_file():
        return root / name
    if name in ("unet", "scheduler") and (root / config).is_file():
        return root
    others = sorted(path.parent.name for path in root.glob(f"*/{config}"))
    there = f"; subfolders there: {', '.join(others)}" if others else ""
    raise UserError(f"{root} has no {name}/{config}", f"name a complete pipeline folder{there}")
