"""The network of pytorch-fid, put together from its own parts; nothing is downloaded.

pytorch-fid's constructor fetches weights by itself, so its patched blocks are put into torchvision's network here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
from torch import Tensor, nn
from torchvision.models import inception_v3

CLASSES = 1008
SIDE = 299
POOL_WIDTH = 2048
SPATIAL_CHANNELS = 7
SPATIAL_WIDTH = 17 * 17 * SPATIAL_CHANNELS

STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2")
MIDDLE = ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d")
LAST = ("Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c")


def build_network() -> nn.Module:
    """The network with fresh weights, in eval mode, gradients off."""
    network: nn.Module = inception_v3(weights=None, num_classes=CLASSES, aux_logits=False, init_weights=False)
    network.Mixed_5b = FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = FIDInceptionE_1(1280)
    network.Mixed_7c = FIDInceptionE_2(2048)
    return network.eval().requires_grad_(False)


def to_input(images: Tensor) -> Tensor:
    """Images uint8 (N, C, H, W), C = 1 or 3, as pytorch-fid feeds them: 0..1, resized to 299x299, then -1..1.

    Grey images are repeated to three channels. The resizing is bilinear between pixel centres without antialiasing.
    """
    x = images.float() / 255.0
    x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
    return 2.0 * F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False) - 1.0


def run(network: nn.Module, x: Tensor) -> Mapping[str, Tensor]:
    """ "pool" (N, 2048), "spatial" (N, 2023) and "probabilities" (N, 1008) of inputs (N, 3, 299, 299).

    Spatial features are those of the guided-diffusion evaluator: the tensor "mixed_6/conv:0", which is the first branch of
    Mixed_6d after its activation, with channels moved last *before* the first 7 are taken. Probabilities are the softmax of
    the pooled features times the last layer's weights; its bias is left out, as there.
    """
    for name in (*STEM, *MIDDLE):
        x = network.get_submodule(name)(x)
    # The block's output begins with its first branch.
    spatial = x.permute(0, 2, 3, 1)[..., :SPATIAL_CHANNELS].flatten(1)
    for name in LAST:
        x = network.get_submodule(name)(x)
    pool = F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
    head = network.get_submodule("fc").get_parameter("weight")
    return {"pool": pool, "spatial": spatial, "probabilities": torch.softmax(pool @ head.T, dim=1)}
