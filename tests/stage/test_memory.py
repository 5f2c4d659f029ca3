"""High-water marks of nested stages."""

from __future__ import annotations

import sys

import pytest
import torch

from ptqbench.stage import memory
from ptqbench.stage.cache import Cache, Costs, cached_tensors
from ptqbench.stage.memory import peak_memory_mib, watching_memory


class Marks:
    """A system that keeps one mark, as Linux and CUDA do."""

    def __init__(self) -> None:
        self.used = self.peak = 100.0

    def use(self, mib: float) -> None:
        self.used = mib
        self.peak = max(self.peak, mib)

    def reset(self) -> None:
        self.peak = self.used


@pytest.fixture
def marks(monkeypatch) -> Marks:
    made = Marks()
    monkeypatch.setattr(memory, "reset_peak_memory", made.reset)
    monkeypatch.setattr(memory, "peak_memory_mib", lambda: made.peak)
    return made


def test_an_inner_block_hides_nothing_of_an_outer_one(marks):
    with watching_memory() as outer:
        marks.use(500)
        marks.use(100)
        with watching_memory() as inner:
            marks.use(200)
            assert inner.look() == 200
            marks.use(100)
        assert outer.look() == 500
        with watching_memory() as second:
            marks.use(700)
            marks.use(100)
        assert (inner.seen, second.seen, outer.look()) == (200, 700, 700)
        marks.use(900)
    assert outer.seen == 900


def test_a_stage_that_asks_for_another_one_keeps_its_own_peak(marks, tmp_path):
    cache, outer, inner = Cache(tmp_path), Costs(), Costs()

    def make_inner(_):
        marks.use(200)
        return {"a": torch.ones(1)}

    def make_outer(_):
        marks.use(500)
        marks.use(100)
        return cached_tensors(cache, inner, "inner", "k", make_inner)

    cached_tensors(cache, outer, "outer", "k", make_outer)
    assert (inner.stages["inner"].peak_mib, outer.stages["outer"].peak_mib) == (200, 500)


def test_resident_memory_is_plausible():
    assert 10 < peak_memory_mib() < 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the mark cannot be started anew")
def test_resident_memory_of_a_block():
    with watching_memory() as outer:
        before = outer.look()
        with watching_memory() as inner:
            torch.ones(2**25).sum()
        assert inner.seen > before + 100
        with watching_memory() as later:
            pass
    assert later.seen < inner.seen - 100
    assert outer.seen == inner.seen


def test_on_cuda_it_is_what_torch_allocated(monkeypatch):
    for name, value in (("is_available", True), ("is_initialized", True), ("device_count", 2)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: (device + 1) * 2**30)
    assert peak_memory_mib() == 2048


def test_half_of_an_accelerator_stays_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70, 100))
    assert memory.fits_on(torch.device("cuda"), 20)
    assert not memory.fits_on(torch.device("cuda"), 21)
    assert memory.fits_on(torch.device("cpu"), 10**15)
    assert not memory.fits_on(torch.device("mps"), 1)
