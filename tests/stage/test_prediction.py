"""What a denoiser was trained to predict becomes the noise in its input."""

from __future__ import annotations

import pytest
import torch

from ptqbench.stage.prediction import to_noise

ALPHA = torch.tensor([0.99, 0.5, 0.004], dtype=torch.float64)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_gives_the_noise(kind):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 2, 4, 4, generator=generator, dtype=torch.float64)
    signal, spread = ALPHA.sqrt().view(-1, 1, 1, 1), (1 - ALPHA).sqrt().view(-1, 1, 1, 1)
    x = signal * clean + spread * noise
    perfect = {"epsilon": noise, "v_prediction": signal * noise - spread * clean, "sample": clean}[kind]
    torch.testing.assert_close(to_noise(kind, perfect, x, ALPHA), noise)
    learned_variance = torch.cat([perfect, torch.full_like(perfect, 7.0)], dim=1)
    torch.testing.assert_close(to_noise(kind, learned_variance, x, ALPHA), noise)
    assert to_noise(kind, perfect.float(), x.float(), ALPHA).dtype == torch.float32
