"""Random streams that everybody draws from who has none of their own."""

from __future__ import annotations

import random
import sys
from typing import Any

from ptqbench.process.shared import OWN_STREAM, Shared


def random_streams() -> dict[str, Shared]:
    """Those of Python, and of numpy, torch and CUDA where these are in use."""
    found = {"random": Shared("the random stream of `random`", random.getstate, random.setstate, instead=OWN_STREAM)}
    if "numpy" in sys.modules:
        found["numpy"] = Shared("the random stream of numpy", _numpy_state, _set_numpy_state, instead=OWN_STREAM)
    if "torch" in sys.modules:
        found["torch"] = Shared("the random stream of torch", _torch_state, _set_torch_state, instead=OWN_STREAM)
        if _cuda_in_use():
            found["cuda"] = Shared("the random streams of CUDA", _cuda_states, _set_cuda_states, instead=OWN_STREAM)
    return found


def _numpy_state() -> Any:
    import numpy as np

    kind, keys, *rest = np.random.get_state(legacy=True)
    return (kind, np.asarray(keys).tobytes(), *rest)


def _set_numpy_state(state: Any) -> None:
    import numpy as np

    kind, keys, *rest = state
    np.random.set_state((kind, np.frombuffer(keys, dtype=np.uint32), *rest))


def _torch_state() -> bytes:
    import torch

    return torch.get_rng_state().numpy().tobytes()


def _set_torch_state(state: bytes) -> None:
    import torch

    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _cuda_in_use() -> bool:
    import torch

    return torch.cuda.is_initialized() and torch.cuda.device_count() > 0


def _cuda_states() -> list[bytes]:
    import torch

    return [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]


def _set_cuda_states(states: list[bytes]) -> None:
    import torch

    torch.cuda.set_rng_state_all([torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in states])
