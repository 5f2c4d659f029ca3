"""The processor that a record names, without which no cost is compared."""

import platform
from pathlib import Path

import pytest
import torch

from ptqbench.running.run import environment
from ptqbench.stage import machine
from ptqbench.stage.context import Settings

X86 = "processor\t: 0\nmodel name\t: Fast  CPU @ 3 GHz\n\nprocessor\t: 1\nmodel name\t: Slow CPU\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\n\nHardware\t: Board 7\n"


@pytest.fixture(autouse=True)
def forget():
    found = machine.processor
    found.cache_clear()
    yield
    found.cache_clear()


@pytest.mark.parametrize(
    ("text", "name"), [(X86, "Fast CPU @ 3 GHz"), (ARM, "Board 7"), ("flags\t: a b\n", "other"), (None, "other")]
)
def test_the_model_is_read_from_cpuinfo_or_asked_of_python(text, name, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(machine, "CPUINFO", path)
    monkeypatch.setattr(platform, "processor", lambda: "other")
    assert machine.processor() == name


def test_the_environment_names_it(monkeypatch):
    monkeypatch.setattr(machine, "processor", lambda: "some processor")
    found = environment(Settings(Path("cache"), "cpu", 1, 1))
    assert found["cpu"] == "some processor"
    assert "accelerator" not in found


def test_an_accelerator_is_named_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"some GPU {device.index}")
    assert machine.hardware("cuda:1")["accelerator"] == "some GPU 1"
    assert machine.hardware("mps")["accelerator"] == "mps"
