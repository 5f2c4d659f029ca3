"""Parts with random weights that several of the small pipelines are made of."""

from __future__ import annotations

from typing import Any, cast

from torch import nn


def diffusers_package() -> Any:
    """The package, whose annotations hide what its classes inherit."""
    import diffusers  # slow to import: only when something is built

    return diffusers


def unet(sample: int, channels: int, widths: tuple[int, ...], attention: tuple[bool, ...], **changes: Any) -> nn.Module:
    """A UNet2DModel with one residual block on each level, or (with `cross_attention_dim`) a UNet2DConditionModel."""
    conditional = "cross_attention_dim" in changes
    down, up = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D") if conditional else ("AttnDownBlock2D", "AttnUpBlock2D")
    made: nn.Module = (diffusers_package().UNet2DConditionModel if conditional else diffusers_package().UNet2DModel)(
        sample_size=sample,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=tuple(down if attends else "DownBlock2D" for attends in attention),
        up_block_types=tuple(up if attends else "UpBlock2D" for attends in reversed(attention)),
        norm_num_groups=8,
        attention_head_dim=8,
        **changes,
    )
    return made


def autoencoder(levels: int, *, quantized: bool, shift_factor: float | None = None) -> nn.Module:
    """A VQModel with latents of 3 channels, or an AutoencoderKL with 4: each level but one halves both sides."""
    shape = {
        "block_out_channels": (8,) * levels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "norm_num_groups": 4,
    }
    if quantized:
        vq = diffusers_package().VQModel(latent_channels=3, num_vq_embeddings=64, scaling_factor=1.0, **shape)
        vq.quantize.embedding.weight.data.normal_()  # its own start is too near to zero to tell codes apart
        return cast(nn.Module, vq)
    factors = {"scaling_factor": 0.18215, "shift_factor": shift_factor}
    return cast(nn.Module, diffusers_package().AutoencoderKL(latent_channels=4, **factors, **shape))
