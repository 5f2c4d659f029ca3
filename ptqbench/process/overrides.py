"""Environment variables that change arithmetic: they can only be read, so they are part of keys, protocols and records."""

from __future__ import annotations

import os
from collections.abc import Mapping

_UNSET = ("",)
_OFF = ("", "0")

OVERRIDES: dict[str, tuple[str, ...]] = {
    # oneDNN, which computes torch's convolutions on a CPU.
    **dict.fromkeys(("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"), ("", "STRICT")),
    **dict.fromkeys(("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"), ("", "ALL", "DEFAULT")),
    **dict.fromkeys(("ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS"), ("", "NO_HINTS")),
    # MKL, OpenBLAS and OpenMP: kernels, and which parts of a sum are added up together.
    **dict.fromkeys(("MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS", "MKL_DISABLE_FAST_MM"), _UNSET),
    **dict.fromkeys(("OPENBLAS_CORETYPE", "OMP_THREAD_LIMIT"), _UNSET),
    **dict.fromkeys(("KMP_DETERMINISTIC_REDUCTION", "KMP_FORCE_REDUCTION"), _UNSET),
    "MKL_DYNAMIC": ("", "TRUE"),
    "OMP_DYNAMIC": ("", "FALSE"),
    # Which kernels torch and numpy choose on a CPU.
    **dict.fromkeys(("ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"), _UNSET),
    **dict.fromkeys(("TORCH_MKLDNN_MATMUL_MIN_DIM", "TORCH_MKLDNN_MATMUL_MIN_SIZE", "TORCH_LINEAR_FLATTEN_3D"), _UNSET),
    # Accelerators: precision, and which libraries and kernels are chosen.
    **dict.fromkeys(("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE"), _UNSET),
    **dict.fromkeys(("CUBLAS_EMULATION_STRATEGY", "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT"), _UNSET),
    **dict.fromkeys(("CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_DOUBLE_PRECISION"), _OFF),
    **dict.fromkeys(("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "HIPBLASLT_ALLOW_TF32", "PYTORCH_TUNABLEOP_ENABLED"), _OFF),
    **dict.fromkeys(("TORCH_BLAS_PREFER_CUBLASLT", "TORCH_BLAS_PREFER_HIPBLASLT"), _OFF),
    **dict.fromkeys(("TORCH_LINALG_PREFER_CUSOLVER", "TORCH_LINALG_PREFER_HIPSOLVER"), _OFF),
    **dict.fromkeys(("TORCH_CUDNN_V8_API_DISABLED", "TORCH_CUDNN_USE_HEURISTIC_MODE_B"), _OFF),
    **dict.fromkeys(("TORCH_CUDNN_SDPA_DEPRIORITIZED", "TORCH_ROCM_FA_PREFER_CK"), _OFF),
    **dict.fromkeys(("PYTORCH_MPS_FAST_MATH", "PYTORCH_MPS_PREFER_METAL", "PYTORCH_ENABLE_MPS_FALLBACK"), _OFF),
}
"""Each variable with the values (in capitals) that leave arithmetic as it is.

Numbers of threads are not among them: a run sets its own (`ptqbench.stage.arithmetic`), and its keys have it.
"""


def overrides(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What of an environment changes arithmetic, by name; empty where nothing does."""
    given = {name: environment[name].strip() for name in sorted(OVERRIDES) if name in environment}
    return {name: value for name, value in given.items() if value.upper() not in OVERRIDES[name]}
