"""CLIP score: how well images fit their prompts (Hessel et al. 2021), through transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ptqbench.digest import fingerprint, version_of
from ptqbench.errors import UserError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics.naming import mean_value
from ptqbench_metrics.options import ClipOptions

CHUNK = 32


class ClipScore(Metric):
    """Mean over images of 100 max(cos, 0), the cosine between CLIP's embeddings of the image and of its prompt."""

    better = "higher"
    needs_prompts = True
    options: ClipOptions

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name: the prompts are the reference."""
        return ["clip-score"]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the network's files and the package's version; prompts are the model's, which its own hash has.

        Raises `UserError` if a file or the package is missing.
        """
        folder = Path(self.options.model)
        files = {path.name: path for path in sorted(folder.glob("*")) if path.suffix in (".json", ".txt", ".safetensors")}
        if "model.safetensors" not in files:
            raise UserError(f"{folder} holds no model.safetensors", "name a folder of CLIP as transformers saves it")
        _package()
        return hashlib.sha256(f"{fingerprint(files)}\n{version_of('transformers')}".encode()).hexdigest()

    @torch.no_grad()
    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for fewer than two images, `UserError` if the network's files do not fit."""
        network, processor = self._network()
        prompts = evidence.prompts
        told: dict[str, Tensor] = {}
        found: list[float] = []
        for images in evidence.images:
            for chunk in images.split(CHUNK):
                seen = processor(images=list(chunk.expand(-1, 3, -1, -1)), return_tensors="pt")
                here = _embedded(network.get_image_features(**seen))
                for row in here:
                    prompt = prompts[len(found) % len(prompts)]
                    if prompt not in told:
                        words = processor(text=[prompt], padding=True, truncation=True, return_tensors="pt")
                        told[prompt] = _embedded(network.get_text_features(**words))[0]
                    found.append(100.0 * float((row @ told[prompt]).clamp_min(0.0)))
        return {"clip-score": mean_value(torch.tensor(found, dtype=torch.float64).numpy())}

    def _network(self) -> tuple[Any, Any]:
        folder = self.options.model
        transformers = _package()
        transformers.logging.disable_progress_bar()
        try:
            with torch.random.fork_rng(devices=[]):
                network = transformers.CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
                return network.float().eval(), transformers.CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises many kinds for files that do not fit
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"cannot load CLIP from {folder}: {reason}", "download the folder anew") from error


def _package() -> Any:
    try:
        import transformers  # slow to import, and an extra
    except ImportError as error:
        raise UserError(
            "the metric 'clip-score' needs the package transformers, which is not installed",
            'install it: pip install "ptqbench[perceptual]"',
        ) from error
    return transformers


def _embedded(found: Any) -> Tensor:
    """Embeddings (N, D) of length one; newer versions of the package return them inside an object."""
    return F.normalize(getattr(found, "pooler_output", found).double(), dim=-1)
