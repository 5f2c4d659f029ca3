"""The feature extractor "dinov2"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.digest import fingerprint, version_of
from ptqbench.errors import UserError
from ptqbench.roles.features import POOL, FeatureExtractor
from ptqbench_dinov2 import DinoOptions

CHUNK = 32
"""Images per forward pass, whatever the caller's batches are."""
SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, by channel, which the network was trained with."""
PROTOCOL = f"bicubic {SIDE} with antialiasing, clamped; ImageNet's mean and deviation; class token after the last norm"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class DinoFeatures(FeatureExtractor):
    """The class token of a DINOv2 network. Distances on it are FD-DINOv2 in the literature, and never "FID"."""

    options: DinoOptions

    def __init__(self, options: DinoOptions) -> None:
        super().__init__(options)
        self._folder = Path(options.model)
        self._device = torch.device("cpu")
        self._network: nn.Module | None = None

    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights, configuration, what is done to images, and the package's version. Raises `UserError`
        where a file is missing."""
        files = fingerprint({name: self._folder / name for name in (_CONFIG, _WEIGHTS)})
        return hashlib.sha256(f"{files}\n{PROTOCOL}\n{version_of('transformers')}".encode()).hexdigest()

    def outputs(self) -> Mapping[str, int]:
        """The width of the class token, read from the configuration. Raises `UserError` if that is none of DINOv2's."""
        path = self._folder / _CONFIG
        try:
            config: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {error}", "name a folder of DINOv2 as transformers saves it") from error
        if not isinstance(config, dict) or config.get("model_type") != "dinov2":
            raise UserError(f"{path} describes no DINOv2", "name a folder such as that of facebook/dinov2-large")
        return {POOL: int(config.get("hidden_size", 768))}

    def prepare(self, device: torch.device) -> None:
        """Load the network onto `device`. Raises `UserError` if files are missing or do not fit, or without transformers."""
        self.outputs()
        transformers = _package()
        transformers.logging.disable_progress_bar()
        try:
            network, found = transformers.Dinov2Model.from_pretrained(
                str(self._folder), use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        except Exception as error:  # transformers raises many kinds for files that do not fit
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"cannot load DINOv2 from {self._folder}: {reason}", "download the folder anew") from error
        if absent := sorted(found["missing_keys"]):
            raise UserError(f"{self._folder} lacks {len(absent)} tensors, first {absent[0]}", "download the folder anew")
        self._network, self._device = network.float().eval().requires_grad_(False).to(device), device

    @torch.inference_mode()
    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        """ "pool" (N, width) float32 on the CPU, of images (N, 1 or 3, H, W) uint8; `UserError` for others."""
        if self._network is None:
            raise RuntimeError("call prepare(device) before extracting features")
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
            found = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
            raise UserError(f"the features 'dinov2' expect images (N, 1 or 3, H, W) uint8, got {found}", "choose others")
        parts = [torch.empty(0, self.outputs()[POOL])]
        for chunk in images.split(CHUNK) if len(images) else ():
            parts.append(self._network(to_input(chunk.to(self._device))).pooler_output.cpu())
        return {POOL: torch.cat(parts)}


def _package() -> Any:
    try:
        import transformers  # slow to import, and an extra
    except ImportError as error:
        raise UserError(
            "the features 'dinov2' need the package transformers, which is not installed",
            'install it: pip install "ptqbench[perceptual]"',
        ) from error
    return transformers


def to_input(images: Tensor) -> Tensor:
    """What the network sees of images (N, 1 or 3, H, W) uint8: (N, 3, 224, 224), normalised; one channel is repeated."""
    from torchvision.transforms.v2 import functional as F  # slow to import: only where features are computed

    wide = images.expand(-1, 3, -1, -1).float() / 255.0
    sized = F.resize(wide, [SIDE, SIDE], interpolation=F.InterpolationMode.BICUBIC, antialias=True).clamp(0.0, 1.0)
    return F.normalize(sized, list(MEAN), list(DEVIATION))
