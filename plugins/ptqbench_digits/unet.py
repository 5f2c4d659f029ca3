"""The former place of `ptqbench_digits.networks`, for modules that do not name the new one yet."""

from __future__ import annotations

from ptqbench_digits.networks import CONDITIONAL_CONFIG, NULL_CLASS, SCHEDULE, UNET_CONFIG, alphas_cumprod, build_unet

__all__ = ["CONDITIONAL_CONFIG", "NULL_CLASS", "SCHEDULE", "UNET_CONFIG", "alphas_cumprod", "build_unet"]
