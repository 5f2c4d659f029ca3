"""The former name of `ptqbench_digits.networks`, until all imports have the new one."""

from ptqbench_digits.networks import (
    CONDITIONAL_CONFIG,
    NULL_CLASS,
    SCHEDULE,
    UNET_CONFIG,
    alphas_cumprod,
    build_unet,
)

__all__ = ["CONDITIONAL_CONFIG", "NULL_CLASS", "SCHEDULE", "UNET_CONFIG", "alphas_cumprod", "build_unet"]
