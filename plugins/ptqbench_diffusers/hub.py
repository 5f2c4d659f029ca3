"""From the option `path` to a folder on this machine."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from ptqbench.errors import UserError
from ptqbench.plugin.names import nearest
from ptqbench_diffusers.layout import PipelineFolder

HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
PATTERNS = [
    *(f"{folder}{name}" for folder in ("", "*/") for name in ("*.json", "diffusion_pytorch_model*.safetensors")),
    "text_encoder*/model*.safetensors",
    "tokenizer*/*",
]
VARIANTS = ("fp16", "bf16", "non_ema")


def find_pipeline(path: str, revision: str = "", unet: str = "", variant: str = "") -> PipelineFolder:
    """The pipeline in a local folder, or in the local snapshot of a hub id, which is downloaded if it is not there.

    Raises `UserError` if there is no such folder, the hub cannot be reached, or the pipeline is not usable.
    """
    folder = Path(os.path.expanduser(path))
    if folder.is_dir():
        if revision:
            raise UserError(f"{path} is a local folder, which has no revisions", "leave model.revision out")
        return PipelineFolder.at(folder, unet, variant)
    if not HUB_ID.fullmatch(path):
        raise UserError(
            f"model.path: there is no folder {path}",
            f"{_near(folder)}name a folder that `save_pretrained` wrote, relative to the recipe, or a hub id (OWNER/NAME)",
        )
    return PipelineFolder.at(_snapshot(path, revision, unet, variant), unet, variant)


def _near(folder: Path) -> str:
    """What may have been meant instead of a folder that is not there."""
    here = Path.cwd() / folder.name
    if here.is_dir():
        return f"there is {here}, in the working folder; paths start at the recipe's: "
    siblings = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    close = nearest(folder.name, siblings)
    return f'did you mean "{folder.parent / close}"? ' if close else ""


@lru_cache(maxsize=8)
def _snapshot(hub_id: str, revision: str, unet: str, variant: str) -> Path:
    """A complete snapshot on this machine wins over a newer one: results do not change while nobody asked for it."""
    try:
        local = _fetch(hub_id, revision, variant, local_only=True)
        PipelineFolder.at(local, unet, variant)
    except UserError:
        return _fetch(hub_id, revision, variant, local_only=False)
    return local


def _fetch(hub_id: str, revision: str, variant: str, *, local_only: bool) -> Path:
    # Both are slow to import, and a local folder needs neither.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision or None,
                allow_patterns=PATTERNS,
                ignore_patterns=[f"*.{name}.*" for name in VARIANTS if name != variant],
                local_files_only=local_only,
            )
        )
    except RevisionNotFoundError as error:
        raise UserError(f"{hub_id} has no revision {revision!r}", "name a branch, tag or commit of it") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"there is no folder {hub_id} here, and no such model on the hub (or it is private)",
            "check the spelling of model.path",
        ) from error
    except Exception as error:  # whatever kept the hub from answering, the remedy is the same
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"there is no folder {hub_id} here, and the hub gave no model of that name: {reason}",
            f"without a network, run `hf download {hub_id}` elsewhere and set model.path to a copy of its folder",
        ) from error
