"""Which variables of the environment count as another arithmetic."""

import pytest

from ptqbench.process.overrides import overrides


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
        ("MKL_CBWR", "COMPATIBLE"),
        ("NVIDIA_TF32_OVERRIDE", "1"),
        ("NVIDIA_TF32_OVERRIDE", "0"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1"),
        ("ATEN_CPU_CAPABILITY", "default"),
    ],
)
def test_what_changes_arithmetic_is_told_with_its_value(name, value):
    assert overrides({"HOME": "/", name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONEDNN_DEFAULT_FPMATH_MODE", "strict"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "0"),
        ("MKL_CBWR", ""),
        ("OMP_NUM_THREADS", "1"),
        ("TORCH_HOME", "/cache"),
    ],
)
def test_defaults_threads_and_folders_are_none(name, value):
    assert overrides({name: value}) == {}
