"""What a denoiser was trained to predict becomes the noise in its input."""

import pytest
import torch

from ptqbench.roles.flow import alphas_of, shifted, sigmas_of
from ptqbench.roles.model import DiffusionModel
from ptqbench.stage.prediction import for_solver, noised, to_noise

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


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
@pytest.mark.parametrize("sigma", [1.0, 0.7, 0.002])
def test_a_noised_state_has_the_level_and_the_prediction_that_belong_to_its_alpha(kind, sigma):
    clean, noise = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha = float(alphas_of(torch.tensor(sigma, dtype=torch.float64)))
    x, wanted = noised(kind, clean, noise, alpha)
    if kind == "flow":
        torch.testing.assert_close(x, (1 - sigma) * clean + sigma * noise)
        torch.testing.assert_close(x - sigma * wanted, clean)
    else:
        torch.testing.assert_close(x, alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise)
        assert wanted is noise


def test_a_velocity_reaches_the_solver_as_it_is_at_timesteps_that_no_table_has():
    output, x, t = torch.randn(2, 6, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([1000.0, 437.5])
    model = DiffusionModel(torch.nn.Identity(), lambda *_: output, ALPHA, (3, 4, 4), lambda x0: x0, prediction="flow")
    assert torch.equal(for_solver(model, output, x, alphas_of(t / 1000)), output[:, :3])


def test_levels_of_flows_have_the_noise_to_signal_of_their_alphas():
    sigma = torch.linspace(0, 1, 9, dtype=torch.float64)
    alpha = alphas_of(sigma)
    torch.testing.assert_close((1 - alpha) * (1 - sigma) ** 2, alpha * sigma**2)
    torch.testing.assert_close(sigmas_of(alpha), sigma)
    torch.testing.assert_close(shifted(sigma, 3.0) * (1 - sigma), 3.0 * sigma * (1 - shifted(sigma, 3.0)))
