"""ONNX files say what the simulation computes: integer codes on our grids, and nothing where they cannot."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from toy_plugin import SHAPE, build_plain

import ptqbench
from ptqbench.deployment.agreement import Agreement
from ptqbench.errors import CellFailedError, UserError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.roles.exporter import Deployable, Inputs
from ptqbench.testing.networks import call_plain
from ptqbench_deployment import OnnxOptions
from ptqbench_deployment.checks import Checks
from ptqbench_deployment.onnx_files import MANIFEST, OnnxExporter, _beside
from ptqbench_deployment.outputs import _grid, affordable, output_grids, simulated_with
from ptqbench_deployment.qdq import SpelledOut, _at, _piece, rewrite, step_sets

STEPS = 3


def states() -> ptqbench.States:
    g = torch.Generator().manual_seed(0)
    return ptqbench.States(torch.randn(12, *SHAPE, generator=g), torch.arange(12) % STEPS * 300 + 1)


def quantized(bits: str, **settings: object) -> ptqbench.Quantized:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    return ptqbench.quantize(build_plain(True).eval(), method="nearest-minmax", bits=bits, data=states(), set=given)


def leaving(q: ptqbench.Quantized) -> Deployable:
    data = states()
    step = q.step_of(data.t)
    call = lambda net, x, t, cond: call_plain(net, x, t)  # noqa: E731
    given = Inputs(data.x, data.t, step, {})
    return Deployable(q.quantized, build_plain(True), call, q.parts.probe, given, lambda _: [given], q.save)


PASSES = ["skip-split", {"use": "attention", "softmax": 8}]


@pytest.mark.parametrize(
    ("bits", "settings"),
    [("W4A8", {}), ("W8A8", {}), ("W8A8", {"weights__symmetric": True}), ("W3A4", {"weights__per": "tensor"})],
)
def test_the_codes_of_a_piece_are_the_weight_of_the_simulation(bits, settings):
    q = quantized(bits, passes=PASSES, **settings).quantized
    for layer in q.layers.values():
        found = []
        for part in layer.partitions():
            piece = _piece(layer, part, 0)
            assert not isinstance(piece, str)
            assert piece.codes.dtype == piece.zero.dtype == torch.int8 and piece.grid.zero.dtype == torch.uint8
            shape = [-1] + [1] * (piece.codes.dim() - 1) if piece.scale.dim() else []
            found.append((piece.codes.float() - piece.zero.float().reshape(shape)) * piece.scale.reshape(shape))
        torch.testing.assert_close(torch.cat(found, 1), layer.baked, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("settings", [{}, {"activations__per": "channel"}, {"activations__steps": "each"}])
def test_rounding_that_is_spelled_out_is_the_simulations(settings):
    q = quantized("W4A6", **settings).quantized
    q.context.step = torch.full((5,), 1)
    x = torch.randn(5, *SHAPE)
    layer = q.layers["first"]
    with torch.no_grad():
        torch.testing.assert_close(SpelledOut(layer, 1)(x), layer(x), rtol=1e-6, atol=1e-6)


def test_graphs_are_as_many_as_grids_differ():
    assert step_sets(quantized("W8A8").quantized) == [range(0, 3)]
    assert step_sets(quantized("W8A8", activations__steps=2).quantized) == [range(0, 2), range(2, 3)]
    assert step_sets(quantized("W8A32").quantized) == [range(0, 3)]


def test_what_an_eight_bit_graph_cannot_say_stays_in_floating_point_with_the_reason():
    for bits, settings, words in (
        ("W8A16", {}, "more than 8 bits"),
        ("W8A8", {"activations__per": "channel"}, "a grid for each channel"),
        ("W8A32", {}, "its input has no grid"),
    ):
        made = rewrite(quantized(bits, **settings).quantized, 0)
        assert made.integer == ()
        assert all(words in reason for reason in made.spelled.values()) and len(made.spelled) == 10


def test_a_zero_point_that_is_no_code_is_no_code():
    q: QuantizedDenoiser = quantized("W8A8").quantized
    part = q.layers["last"].partitions()[0]
    part.activation.restore({"scale": torch.full((1, 1), 0.1), "zero_point": torch.full((1, 1), 300.0)})
    assert rewrite(q, 0).spelled == {"last": "the zero point 300 of its input is no code"}
    assert _at(part.activation, 0, STEPS)[1] == 300


def test_output_grids_round_what_convolutions_give_and_as_many_stay_as_the_error_allows():
    cell = leaving(quantized("W8A8", passes=PASSES, weights__symmetric=True))
    grids = output_grids(cell, range(STEPS))
    convolutions = {name for name, layer in cell.quantized.layers.items() if not isinstance(layer.inner, torch.nn.Linear)}
    assert grids.keys() == convolutions
    assert [len(grids[name]) for name in grids] == [len(cell.quantized.layers[name].partitions()) for name in grids]
    wanted = cell.simulated(cell.held_out)
    every = Agreement.of(simulated_with(cell, grids, cell.held_out), wanted)
    few = affordable(cell, grids, range(STEPS), every.snr + 6)
    assert 0 < len(few) < len(grids)
    assert Agreement.of(simulated_with(cell, few, cell.held_out), wanted).snr > every.snr + 4
    assert cell.simulated(cell.held_out).equal(wanted)
    assert set(rewrite(cell.quantized, 0, grids).outputs) == convolutions
    apart = rewrite(quantized("W8A8", passes=PASSES).quantized, 0, grids)
    assert apart.outputs == ["last"] and {*apart.apart, "last"} == convolutions  # one channel has one zero point


def test_a_grid_reaches_what_its_channel_gave_and_is_finer_where_that_is_little():
    x = torch.stack([torch.linspace(-3, 1, 101), torch.linspace(0, 0.02, 101)], 1)[..., None]
    grid = _grid(x.amin((0, 2)), x.amax((0, 2)))
    assert grid.scale.tolist() == pytest.approx([4 / 255, 0.02 / 255], rel=1e-5) and grid.zero.tolist() == [191, 0]
    assert bool(((grid.rounded(x) - x).abs()[:, :, 0] <= grid.scale / 2 + 1e-6).all())


def test_who_differs_is_told_from_what_was_computed_with_and_without_fused_kernels():
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    for with_outputs, plain, fused, alone, words in (
        (x, x, 1.1 * x, x, "agrees to inf dB operator by operator"),
        (1.1 * x, 1.1 * x, 1.1 * x, x, "rounding of outputs alone comes to 20.0 dB"),
        (x, 1.1 * x, 1.1 * x, 1.03 * x, "a row at a time, comes to 30.5 dB"),
        (x, 1.1 * x, 1.1 * x, x, "another onnxruntime may do"),
    ):
        with pytest.raises(CellFailedError) as caught:
            Checks([x], [with_outputs], [plain], [fused], [alone]).refuse(30)
        assert words in caught.value.hint
    Checks([x], [x], [x], [1.001 * x], [x]).refuse(30)


def test_too_many_graphs_are_refused_before_any_is_written(tmp_path):
    pytest.importorskip("onnxruntime")
    exporter = OnnxExporter(OnnxOptions(graphs=2))
    with pytest.raises(UserError, match="change 2 times while sampling: 3 graphs"):
        exporter.write(leaving(quantized("W8A8", activations__steps="each")), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Deployable, Path, list[str]]:
    """Tracing a network takes seconds: one that has partitions, attention, and two groups of steps stands for all."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx")
    cell = leaving(quantized("W6A8", passes=PASSES, activations__steps=2))
    return cell, folder, list(OnnxExporter(OnnxOptions()).write(cell, folder))


def test_a_graph_has_q_and_dq_round_products_with_our_codes_and_scales(written):
    import onnx
    from onnx import numpy_helper

    cell, folder, _ = written
    assert sorted(p.name for p in folder.glob("*.onnx")) == ["steps_000-001.onnx", "steps_002-002.onnx"]
    graph = onnx.load(folder / "steps_000-001.onnx").graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    constants |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    uses: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node.op_type)
    dequantized = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    assert {use for node in dequantized for use in uses[node.output[0]]} <= {"Conv", "MatMul", "Mul", "Transpose", "Reshape"}
    weights = [node for node in dequantized if node.input[0] in constants]
    parts = [part for layer in cell.quantized.layers.values() for part in layer.partitions()]
    assert len(weights) == len(parts) == 11  # ten layers, one of them in two parts
    assert all(constants[node.input[0]].dtype == "int8" for node in weights)
    assert len({node.input[2] for node in dequantized}) == len(dequantized)  # shared ones keep onnxruntime from exact products
    ours = sorted(float(part.weight.scale.sum()) for part in parts)
    assert sorted(float(constants[node.input[1]].sum()) for node in weights) == pytest.approx(ours, rel=1e-6)


def test_the_manifest_says_what_became_of_each_layer_and_how_well_it_agrees(written):
    cell, folder, said = written
    data = json.loads((folder / MANIFEST).read_text())
    assert [g["steps"] for g in data["graphs"]] == [[0, 1], [2, 2]]
    assert data["Q/DQ"] == list(cell.quantized.layers) and data["in floating point"] == {}
    assert data["weights of fewer bits in int8"]["last"] == 6
    assert data["agreement with the simulation"]["snr"] > 40 and data["agreement with the simulation"]["rows"] == 12
    assert any("12 held-out states" in line for line in said) and any("int8 codes" in line for line in said)


@pytest.fixture
def traced(written, monkeypatch):
    """The cell, written without torch's exporter, whose graphs give `factor` times the simulation."""
    cell, *_ = written

    def as_if(factor: float) -> Deployable:
        monkeypatch.setattr("ptqbench_deployment.onnx_files.write_graph", lambda *given: given[-1].write_text("new"))
        monkeypatch.setattr("ptqbench_deployment.checks.run_file", lambda path, given, **_: factor * cell.simulated(given))
        return cell

    return as_if


OLD = ("model.onnx", "model.onnx.data", "steps_000-000.onnx", "steps_000-001.onnx", MANIFEST, "mine.onnx")


def test_a_graph_that_computes_something_else_leaves_an_earlier_export_as_it_was(traced, tmp_path):
    for name in OLD:
        (tmp_path / name).write_text("old")
    for factor, snr in ((1.1, "20.0"), (float("nan"), "-inf")):
        with pytest.raises(CellFailedError, match=rf"something else than the simulation: {snr} dB.*; it takes 30 dB"):
            OnnxExporter(OnnxOptions()).write(traced(factor), tmp_path)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(OLD, "old")


def test_nothing_of_an_earlier_export_stays_beside_a_new_one(traced, tmp_path):
    for name in OLD:
        (tmp_path / name).write_text("old")
    OnnxExporter(OnnxOptions()).write(traced(1.0001), tmp_path)
    data = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert data.keys() == {"steps_000-001.onnx", "steps_002-002.onnx", MANIFEST, "mine.onnx"}
    assert data["steps_000-001.onnx"] == "new" and data["mine.onnx"] == "old"
    assert [g["file"] for g in json.loads(data[MANIFEST])["graphs"]] == ["steps_000-001.onnx", "steps_002-002.onnx"]


def test_what_a_killed_export_left_goes_with_the_next(traced, tmp_path):
    if (child := os.fork()) == 0:
        with _beside(tmp_path) as beside:
            (beside / "model.onnx").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert [path.name for path in tmp_path.glob(".export-*/*")] == ["model.onnx"]
    OnnxExporter(OnnxOptions()).write(traced(1.0001), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"steps_000-001.onnx", "steps_002-002.onnx", MANIFEST}
