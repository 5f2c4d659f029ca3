"""What all code of a process shares beside torch's settings: random streams that everybody draws from who has none of their
own, filters of warnings, the working folder, variables of the environment."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from ptqbench.process.overrides import OVERRIDES
from ptqbench.process.shared import OWN_STREAM, RUN, Shared


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


def _filters() -> list[Any]:
    return list(warnings.filters)


def _set_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()  # also tells modules that what they remember of old filters is void
    warnings.filters[:] = filters  # type: ignore[index]


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _set_folder(folder: str) -> None:
    if folder:
        os.chdir(folder)


def _variables() -> dict[str, str]:
    # This way round: looking up a variable that is not there takes long.
    return {name: os.environ[name] for name in OVERRIDES.keys() & os.environ.keys()}


def _set_variables(values: Mapping[str, str]) -> None:
    for name in OVERRIDES:
        os.environ.pop(name, None)
    os.environ.update(values)


SURROUNDINGS = {
    "warnings": Shared("the filters of warnings", _filters, _set_filters, instead="use `with warnings.catch_warnings():`"),
    "folder": Shared("the working folder", _folder, _set_folder, instead="name whole paths"),
    "environment": Shared("environment variables that change arithmetic", _variables, _set_variables, instead=RUN),
}
