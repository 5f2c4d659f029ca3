"""Registration, and the command that trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ptqbench_digits import DigitsOptions, ptqbench_commands, ptqbench_components
from ptqbench_digits.assess import frechet_distance
from ptqbench_digits.commands import digits
from ptqbench_digits.sampling import uniform_timesteps

CPU = torch.device("cpu")


def test_components_load_their_classes() -> None:
    components = ptqbench_components()
    names = ["digits", "digits-conditional", "digits-dit", "digits-latent", "digits"]
    assert [component.name for component in components] == names
    assert len({component.create().fingerprint() for component in components}) == len(names)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss over all images is the card's: test_digits_source.py computes it."""
    for module in ("train", "assess"):
        monkeypatch.setattr(f"ptqbench_digits.{module}.card_loss", lambda *_, **__: 0.5)
    monkeypatch.setattr("ptqbench_digits.train.PICTURE_STEPS", 2)


def test_train_writes_files_that_load_and_repeats_itself(tmp_path: Path, quick: None) -> None:
    (group,) = ptqbench_commands()
    threads = torch.get_num_threads()
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = ["train", "--steps", "2", "--threads", "1"]
    result = CliRunner().invoke(group, [*arguments, "--out", str(first)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert torch.get_num_threads() == threads
    bundles = ("classifier", "conditional", "denoiser", "dit", "latent")
    networks = [f"{name}.{kind}" for name in bundles for kind in ("json", "safetensors")]
    pictures = [f"{name}.png" for name in ("conditional", "dit", "latent", "samples")]
    assert sorted(path.name for path in first.iterdir()) == sorted([*networks, *pictures])
    options = DigitsOptions(folder=str(first))
    model = ptqbench_components()[0].create(options).load(CPU)
    assert model.call(model.denoiser, torch.zeros(1, 1, 16, 16), torch.tensor([9]), {}).shape == (1, 1, 16, 16)
    ptqbench_components()[-1].create(options).prepare(CPU)
    CliRunner().invoke(group, [*arguments, "--out", str(second), "--only", "classifier"], catch_exceptions=False)
    assert sorted(path.name for path in second.iterdir()) == networks[:2]
    assert (first / "classifier.json").read_bytes() == (second / "classifier.json").read_bytes()


ASSESS = ["assess", "--steps", "2", "--count", "100", "--threads", "1"]


def test_assess_prints_figures(quick: None) -> None:
    result = CliRunner().invoke(digits, ASSESS, catch_exceptions=False)
    assert result.exit_code == 0
    assert '"distance_samples_data"' in result.stdout
    assert "class_accuracy" not in result.stdout


@pytest.mark.parametrize("model", ["conditional", "dit", "latent"])
def test_a_conditional_denoiser_draws_the_digits_that_it_is_told(model: str, quick: None) -> None:
    few = [word if word != "2" else "5" for word in ASSESS]
    result = CliRunner().invoke(digits, [*few, "--model", model, "--guidance", "2.0"], catch_exceptions=False)
    assert json.loads(result.stdout)["class_accuracy"] >= 0.9


def test_uniform_timesteps_span_the_schedule() -> None:
    steps = uniform_timesteps(1000, 20)
    assert (steps[0], steps[-1], len(set(steps))) == (999, 0, 20)


def test_frechet_distance_of_shifted_and_scaled_gaussians() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(x, x + 2.0) == pytest.approx(12.0, rel=1e-5)
    centred = x - x.mean(dim=0)
    assert frechet_distance(centred, 2.0 * centred) == pytest.approx(float(centred.double().T.cov().trace()), rel=1e-5)
