"""The precision of float32 is measured: what rounds more coarsely is seen whatever made it so."""

import pytest
import torch
import torch.nn.functional as F

from ptqbench.stage import precision
from ptqbench.stage.precision import ENOUGH_BITS, arithmetic_words, right_bits

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def measured_anew():
    precision._precision.cache_clear()
    yield
    precision._precision.cache_clear()


def test_float32_is_float32_here():
    assert set(right_bits(CPU)) == {"conv2d", "linear", "matmul", "attention"}
    assert min(right_bits(CPU).values()) >= ENOUGH_BITS
    assert arithmetic_words(CPU) == "float32"


@pytest.mark.parametrize(("dtype", "least", "most"), [(torch.bfloat16, 6, 10), (torch.float16, 9, 13)])
def test_operands_that_are_rounded_are_seen_with_their_bits(monkeypatch, dtype, least, most):
    genuine = F.conv2d

    def coarse(x, weight):
        short = (lambda v: v) if x.dtype == torch.float64 else (lambda v: v.to(dtype).to(v.dtype))
        return genuine(short(x), short(weight))

    monkeypatch.setattr(F, "conv2d", coarse)
    assert least <= right_bits(CPU)["conv2d"] <= most
    assert arithmetic_words(CPU) == f"float32, conv2d right to {right_bits(CPU)['conv2d']} bits"


def test_values_that_are_not_finite_are_right_to_no_bit(monkeypatch):
    monkeypatch.setattr(F, "linear", lambda x, weight: x @ weight.T * (1.0 if x.dtype == torch.float64 else torch.nan))
    assert right_bits(CPU)["linear"] == 0


def test_variables_of_the_environment_are_told(monkeypatch):
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert arithmetic_words(CPU) == "float32 ONEDNN_DEFAULT_FPMATH_MODE=BF16"
