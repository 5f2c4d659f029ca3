"""State that moved is found and put back, whichever piece it is."""

import os
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptqbench.process.snapshot import Snapshot, listed, undisturbed
from ptqbench.process.torch_settings import ATTENTION, torch_settings


def wrapped(*args, **kwargs):
    """An attention of somebody else's."""
    return ATTENTION(*args, **kwargs) + 1


MOVES = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "attention": lambda: setattr(F, "scaled_dot_product_attention", wrapped),
    "grad mode": lambda: torch.set_grad_enabled(False),
    "denormals": lambda: torch.set_flush_denormal(True),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "autocast cpu": lambda: torch.set_autocast_enabled("cpu", True),
    "sdp math": lambda: torch.backends.cuda.enable_math_sdp(False),
    "cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "cudnn.allow_tf32": lambda: setattr(torch.backends.cudnn, "allow_tf32", not torch.backends.cudnn.allow_tf32),
    "matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "random": random.random,
    "numpy": np.random.rand,
    "torch": lambda: torch.rand(1),
    "warnings": lambda: warnings.simplefilter("ignore"),
    "folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.update(NVIDIA_TF32_OVERRIDE="1"),
}


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_is_named_and_put_back(name):
    before = Snapshot()
    with undisturbed() as moved:
        MOVES[name]()
    assert name in moved
    assert before.moved() == {}


def test_values_of_streams_go_on_where_they_were():
    expected = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with undisturbed():
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
    assert random.getstate() == expected[0]
    assert np.random.get_state()[1].tolist() == expected[1]
    assert torch.equal(torch.get_rng_state(), expected[2])


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch has the older words alone")
def test_newer_words_for_precision_are_watched_also_where_older_ones_cannot_say_it():
    before = Snapshot()
    with undisturbed() as moved:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
    assert "torch.backends.mkldnn.matmul.fp32_precision" in listed(moved.values())
    assert before.moved() == {}


def test_nothing_moves_where_nothing_was_touched():
    with undisturbed() as moved:
        torch.ones(3).sum()
        torch.rand(1, generator=torch.Generator().manual_seed(0))
        with torch.no_grad(), warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("error")
            torch.rand(1)
    assert moved == {}


def test_filters_that_come_with_a_library_are_its_own(monkeypatch, tmp_path):
    (tmp_path / "library_with_filters.py").write_text("import warnings\nwarnings.filterwarnings('ignore', message='mine')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with warnings.catch_warnings(), undisturbed() as moved:
        import library_with_filters  # noqa: F401
    assert moved == {}


def test_torch_that_came_meanwhile_is_held_against_a_fresh_one():
    code = (
        "from ptqbench.process.snapshot import undisturbed\n"
        "import sys\n"
        "assert 'torch' not in sys.modules\n"
        "with undisturbed() as moved:\n"
        "    import torch, torch.nn.functional as F\n"
        "    torch.set_default_dtype(torch.float64)\n"
        "    F.scaled_dot_product_attention = print\n"
        "print(sorted(moved), torch.get_default_dtype(), F.scaled_dot_product_attention is not print)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['attention', 'default dtype'] torch.float32 True\n"


def test_every_setting_says_what_it_is_and_what_to_do_instead():
    for name, shared in torch_settings().items():
        assert shared.words and shared.instead, name
