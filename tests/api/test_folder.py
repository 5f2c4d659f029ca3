"""Quantized models that leave: what is loaded is what was saved, at its own bits, and nothing else is loaded."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_plugin import SHAPE, build_plain

import ptqbench
from ptqbench.api.folder import MANIFEST, TENSORS
from ptqbench.api.load import _as
from ptqbench.errors import UserError
from ptqbench.measuring.state_hash import state_hash
from ptqbench.quant.plan import AttentionProbe, LayerProbe, Probe

QUICK = {"reconstruction.iterations": 2, "reconstruction.step_iterations": 2}
METHODS = {
    "weights alone": ("adaround", "W3A32", {"reconstruction.iterations": 2}),
    "learned codes and steps": ("q-diffusion", "W4A8", QUICK),
    "a grid for each step": ("tdq", "W8A4", {"activations.range": "minmax", **QUICK}),
    "symmetric": ("nearest-minmax", "W5A6", {"weights.symmetric": True, "activations.symmetric": True}),
}


def states(shape: tuple[int, int, int] = SHAPE) -> ptqbench.States:
    g = torch.Generator().manual_seed(0)
    return ptqbench.States(torch.randn(12, *shape, generator=g), torch.arange(12) % 3 * 300 + 1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Residual blocks, attention and a skip connection."""
    return build_plain(True).eval()


@pytest.fixture(scope="module", params=METHODS)
def saved(request, net, tmp_path_factory) -> tuple[ptqbench.Quantized, Path]:
    """A quantized network, and the folder that it was saved to."""
    method, bits, settings = METHODS[request.param]
    q = ptqbench.quantize(net, method=method, bits=bits, data=states(), set=settings)
    folder = tmp_path_factory.mktemp("saved") / "folder"
    assert q.save(folder) == folder
    return q, folder


@pytest.fixture
def folder(net, tmp_path_factory) -> Path:
    """A folder that may be spoilt."""
    cached = tmp_path_factory.getbasetemp() / "spoilt"
    if not cached.exists():
        ptqbench.quantize(net, method="nearest-minmax", bits="W4A8", data=states()).save(cached)
    return Path(shutil.copytree(cached, tmp_path_factory.mktemp("copy") / "folder"))


def test_what_is_loaded_is_what_was_saved(saved, net):
    q, folder = saved
    found = ptqbench.load(folder, net)
    data = states()
    with torch.no_grad():
        assert torch.equal(found(data.x, data.t), q(data.x, data.t))
    assert (found.plan, found.report) == (q.plan, dataclasses.replace(q.report))
    assert found.bit_ledger == q.bit_ledger and found.ledger == q.ledger
    assert torch.equal(found.timesteps, q.timesteps)
    assert state_hash(found.quantized) == q.report.state_hash
    # And once more: what was loaded can leave again.
    again = found.save(folder.parent / "again")
    assert (again / TENSORS).read_bytes() == (folder / TENSORS).read_bytes()
    assert (again / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()


@pytest.mark.parametrize("convert", ["half", "double"])
def test_converted_grids_are_not_saved_since_nobody_could_load_them(folder, net, tmp_path, convert):
    converted = getattr(ptqbench.load(folder, net), convert)()
    with pytest.raises(UserError, match="not those that the report is of"):
        converted.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_codes_take_their_bits_and_nothing_is_code(saved):
    q, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, TENSORS]
    packed = json.loads(gzip.decompress((folder / MANIFEST).read_bytes()))["tensors"]["packed"]
    for layer in q.plan.layers:
        for i, _ in enumerate(layer.partitions or (0,)):
            how = packed[f"{layer.name}|w.{i}.codes"]
            assert how["bits"] <= layer.weight.bits and how["dtype"] == "int16"


def test_all_files_are_at_most_a_twentieth_larger_than_the_ledger_counts(tmp_path):
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    net = UNet2DModel(sample_size=8, layers_per_block=1, block_out_channels=(64, 128), norm_num_groups=4, **kinds).eval()
    data = states((3, 8, 8))
    q = ptqbench.quantize(net, method="nearest-minmax", bits="W4A8", data=data, set={"activations.steps": "each"})
    size = sum(path.stat().st_size for path in q.save(tmp_path).iterdir())
    assert q.bit_ledger.quantized_bytes < size <= 1.05 * q.bit_ledger.quantized_bytes
    assert q.bit_ledger.quantized_bytes + q.bit_ledger.float_bytes == q.report.bytes


def spoil(folder: Path, name: str, change) -> None:
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


def manifest(change):
    def apply(content: bytes) -> bytes:
        data = json.loads(gzip.decompress(content))
        change(data)
        return gzip.compress(json.dumps(data).encode())

    return apply


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (TENSORS, lambda b: b[:-1], "its SHA-256 differs"),
        (TENSORS, lambda b: b[:-1] + bytes([b[-1] ^ 1]), "its SHA-256 differs"),
        (MANIFEST, lambda b: b[: len(b) // 2], "cannot be read"),
        (MANIFEST, lambda b: b"", "cannot be read"),
        (MANIFEST, lambda b: b"{}", "cannot be read: Not a gzipped file"),
        (MANIFEST, lambda b: gzip.compress(b"{}"), "cannot be read: format is missing"),
        (MANIFEST, lambda b: gzip.compress(b"[1]"), "cannot be read"),
        (MANIFEST, lambda b: gzip.compress(b"\xff\xfe"), "cannot be read"),
        (MANIFEST, lambda b: b[:40] + b"\0" * 40 + b[80:], "cannot be read"),
        (MANIFEST, manifest(lambda m: m["plan"]["layers"][0]["weight"].update(bits=8)), "its digest differs"),
        (MANIFEST, manifest(lambda m: m["base"].update(sha256="0" * 64)), "its digest differs"),
        (MANIFEST, manifest(lambda m: m.update(schema=99)), "schema 99"),
        (MANIFEST, manifest(lambda m: m.update(format="another")), "'another'"),
    ],
)
def test_a_folder_that_was_cut_short_or_changed_is_refused_with_the_reason(folder, net, name, change, words):
    spoil(folder, name, change)
    with pytest.raises(UserError) as caught:
        ptqbench.load(folder, net)
    assert words in caught.value.message and str(folder) in caught.value.message


@pytest.mark.parametrize("name", [TENSORS, MANIFEST])
def test_a_file_that_is_gone_is_named(folder, net, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}"):
        ptqbench.load(folder, net)


def test_a_folder_of_the_first_schema_is_refused_with_what_to_do(folder, net):
    (folder / MANIFEST).rename(folder / "manifest.json")
    with pytest.raises(UserError, match=r"of schema 1; this version reads .* of schema 2") as caught:
        ptqbench.load(folder, net)
    assert "export the cell again" in caught.value.hint


def test_others_may_read_what_their_umask_lets_them(folder):
    (folder / "new").touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {(folder / "new").stat().st_mode}


def test_another_layout_of_the_manifest_is_the_same_manifest(folder, net):
    data = json.loads(gzip.decompress((folder / MANIFEST).read_bytes()))
    (folder / MANIFEST).write_bytes(gzip.compress(json.dumps(data, indent=4, sort_keys=True).encode()))
    assert ptqbench.load(folder, net).report.bits == "W4A8"


def test_other_weights_are_refused(folder, net, conditional_unet):
    import copy

    other = copy.deepcopy(net)
    with torch.no_grad():
        other.last.bias[0] += 1e-6
    for model in (other, conditional_unet[0]):
        with pytest.raises(UserError, match="was made from another model") as caught:
            ptqbench.load(folder, model)
        assert type(model).__name__ in caught.value.message


FILE = '''"""A weight quantizer of its own file."""

from ptqbench import Component, hookimpl
from ptqbench.quant.uniform import UniformQuantizer


class Own(UniformQuantizer):
    """Rounds to nearest."""


@hookimpl
def ptqbench_components():
    return [Component("weight-quantizer", "own", "rounds", Own, version={version})]
'''


def test_a_quantizer_is_asked_for_by_its_plugin_and_version(net, tmp_path):
    plugin = tmp_path / "own.py"
    plugin.write_text(FILE.format(version=1))
    settings = {"weights.quantizer": "own"}
    q = ptqbench.quantize(net, method="nearest-mse", bits="W4A8", data=states(), set=settings, plugins=[plugin])
    q.save(tmp_path / "saved")
    assert ptqbench.load(tmp_path / "saved", net, plugins=[plugin]).report.state_hash == q.report.state_hash
    with pytest.raises(UserError, match=r'needs the weight quantizer "own" of the plugin "own.py"'):
        ptqbench.load(tmp_path / "saved", net)
    plugin.write_text(FILE.format(version=2))
    with pytest.raises(UserError, match="in version 1; here it is version 2"):
        ptqbench.load(tmp_path / "saved", net, plugins=[plugin])
    plugin.write_text(FILE.format(version=1).replace('"""Rounds to nearest."""', CHANGED))
    with pytest.raises(UserError, match="make other codes or grids"):
        ptqbench.load(tmp_path / "saved", net, plugins=[plugin])


CHANGED = """def restore(self, state):
        super().restore({**state, "scale": state["scale"] * 2})"""


def test_a_probe_comes_back_whole():
    there = Probe((LayerProbe("a", "Linear", (4, 8), 32, (4, 4), True),), (), 5, (AttentionProbe("b", 1, 2),), ("c",), ("c",))
    assert _as(Probe, json.loads(json.dumps(dataclasses.asdict(there)))) == there
