"""LPIPS against full precision on equal noise (Zhang et al. 2018), by the authors' package."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ptqbench.digest import file_sha256, version_of
from ptqbench.errors import UserError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics.naming import mean_value
from ptqbench_metrics.options import LpipsOptions

LEAST_SIDE = 64
"""The metric was fitted to judgments of patches of 64x64 pixels."""
CHUNK = 32


class Lpips(Metric):
    """Mean perceptual distance of pairs of images; 0 for equal ones."""

    relative = True
    options: LpipsOptions

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name, which carries the network."""
        return [f"lpips-{self.options.network}@fp"]

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the network's weights and the package's version. Raises `UserError` without either."""
        _package()
        return hashlib.sha256(f"{file_sha256(Path(self.options.weights))}\n{version_of('lpips')}".encode()).hexdigest()

    @torch.no_grad()
    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for fewer than two images or images that do not pair."""
        if evidence.is_full_precision:
            return {}
        network, found = self._network(), []
        for ours, theirs in evidence.pairs():
            for a, b in zip(ours.split(CHUNK), theirs.split(CHUNK), strict=True):
                found.append(network(to_input(a), to_input(b)).flatten().double())
        return {self.names(evidence.extractor)[0]: mean_value(torch.cat(found).numpy())}

    def _network(self) -> Any:
        # Weights are drawn before the file's take their place, by a call that torchvision calls outdated.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = _package().LPIPS(net=self.options.network, pnet_rand=True, verbose=False)
        path = Path(self.options.weights)
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            # The package names the layers by the part that they stand in, and by their number in torchvision's network.
            state = {name: tensors["features." + name.partition(".")[2]] for name in network.net.state_dict()}
            network.net.load_state_dict(state)
        except Exception as error:  # torch.load has no closed list of errors for files that are no checkpoints
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(
                f"{path} cannot be read as weights of torchvision's {self.options.network}: {reason}",
                "name the file that torchvision downloads for this network",
            ) from error
        return network.eval().requires_grad_(False)


def to_input(images: Tensor) -> Tensor:
    """Images (N, 1 or 3, H, W) uint8 in [-1, 1] with three channels, smaller ones enlarged to `LEAST_SIDE`."""
    wide = images.expand(-1, 3, -1, -1).float() / 127.5 - 1.0
    side = min(wide.shape[-2:])
    if side >= LEAST_SIDE:
        return wide
    return F.interpolate(wide, scale_factor=-(-LEAST_SIDE // side), mode="bilinear", align_corners=False)


def _package() -> Any:
    try:
        import lpips  # slow to import, and an extra
    except ImportError as error:
        raise UserError(
            "the metric 'lpips' needs the package lpips, which is not installed",
            'install it: pip install "ptqbench[perceptual]"',
        ) from error
    return lpips
