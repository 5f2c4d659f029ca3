"""What only an accelerator can show: equal numbers on both devices, float32 in earnest, a loop that never waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from enginekit import recipe

from ptqbench.benchmarks.subject import Bench
from ptqbench.recipe.load import load_experiment
from ptqbench.results.record import RunRecord
from ptqbench.running.run import run_experiment
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.context import Settings

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, RunRecord]:
    """The toy comparison on either device."""
    found = {}
    for device in ("cpu", DEVICE):
        settings = Settings(tmp_path_factory.mktemp("cache"), device, workers=1, threads=1)
        found[device] = run_experiment(load_experiment(recipe()), settings, lambda *_: None, lambda _: None)
    return found


def test_numbers_agree_between_devices(records):
    for here, there in zip(records["cpu"].cells, records[DEVICE].cells, strict=True):
        assert (here.status, there.status) == ("ok", "ok"), (here.reason, there.reason)
        assert here.metrics.keys() == there.metrics.keys()
        for name, number in here.metrics.items():
            # Fits go different ways from the last bit on; what is only rounded to nearest does not.
            allowed = 0.02 if here.method in ("full-precision", "nearest") else 0.3
            assert there.metrics[name].value == pytest.approx(number.value, rel=allowed, abs=1e-6), (here.method, name)


def test_a_run_repeats_its_bits(records, tmp_path):
    settings = Settings(tmp_path, DEVICE, workers=1, threads=1)
    again = run_experiment(load_experiment(recipe()), settings, lambda *_: None, lambda _: None)
    assert [cell.state_hash for cell in again.cells] == [cell.state_hash for cell in records[DEVICE].cells]


def test_float32_is_not_tf32():
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=rng) for _ in range(2))
    image, kernel = torch.randn(4, 64, 16, 16, generator=rng), torch.randn(64, 64, 3, 3, generator=rng)
    with arithmetic(1):
        product = (a.to(DEVICE) @ b.to(DEVICE)).cpu()
        convolved = torch.nn.functional.conv2d(image.to(DEVICE), kernel.to(DEVICE)).cpu()
    for found, exact in (
        (product, a.double() @ b.double()),
        (convolved, torch.nn.functional.conv2d(image.double(), kernel.double())),
    ):
        # TF32 has 10 bits of mantissa: its error would be near 3e-4.
        assert float((found.double() - exact).norm() / exact.norm()) < 1e-5


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Meanwhile an operation that waits for the accelerator raises."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["blocks.0", "attention"])
def test_iterations_do_not_wait_for_the_host(no_waiting, name):
    bench = Bench(torch.device(DEVICE), samples=64)
    bench.q.find_weight_grids()
    steps = bench.fit(bench.problem(name), 8, 12).run()
    for _ in range(3):  # lazy initialisations
        next(steps)
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(6):
        next(steps)
