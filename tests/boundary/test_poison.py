"""A plugin that moves what all share: the clean number comes out, or the cell fails with the plugin's name."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from enginekit import TOY, cell_of, context, experiment, recipe, run_cell

from ptqbench.boundary.call import Call, Owner, calling
from ptqbench.errors import EXIT_PLUGIN
from ptqbench.failures import PluginFault
from ptqbench.process.snapshot import Snapshot

MOVES = {
    "torch.rand(1)": "random stream of torch",
    "torch.manual_seed(5)": "random stream of torch",
    "numpy.random.rand()": "random stream of numpy",
    "random.random()": "random stream of `random`",
    "torch.set_default_dtype(torch.float64)": "default dtype",
    "torch.set_num_threads(3)": "number of threads",
    "torch.set_grad_enabled(False)": "grad mode",
    "torch.use_deterministic_algorithms(True)": "deterministic mode",
    "torch.set_float32_matmul_precision('medium')": "matmul precision",
    "warnings.simplefilter('ignore')": "filters of warnings",
    "os.chdir('/')": "working folder",
    "setattr(F, 'scaled_dot_product_attention', lambda *a, **k: a[2])": "scaled_dot_product_attention",
    "os.environ.update(ONEDNN_DEFAULT_FPMATH_MODE='BF16')": "environment variables",
}
IMPORTS = "import os, random, warnings\nimport numpy, torch\nimport torch.nn.functional as F\n"

PLUGIN = (
    IMPORTS
    + """
from ptqbench import Component, hookimpl
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench.roles.weighter import SampleWeighter

def move():
    {move}

class Moving(SampleWeighter):
    def weights(self, batch, problem):
        move()
        return torch.ones(len(batch))

class MovingMetric(Metric):
    def names(self, extractor):
        return ["moving"]

    def compute(self, evidence):
        move()
        return {{"moving": MetricValue(1.0, 1.0, 1.0, 8)}}

class MovingQuantizer(UniformQuantizer):
    def forward(self, x, group=None):
        move()
        return super().forward(x, group)

@hookimpl
def ptqbench_components():
    return [
        Component("weighter", "moving", "moves", Moving),
        Component("metric", "moving", "moves", MovingMetric),
        Component("activation-quantizer", "moving", "moves", MovingQuantizer),
    ]
{at_import}
"""
)
CLEAN = ("model.network=plain", "evaluation.metrics=['eps-error']")
OWNER = Owner("metric", "moving", "moving.py")


@pytest.fixture
def plugin(tmp_path: Path):
    """Writes a plugin that moves something when it is called or imported, and gives recipes that name it."""

    def write(move: str = "pass", at_import: str = "") -> Path:
        path = tmp_path / f"moving{len(list(tmp_path.glob('moving*')))}.py"
        path.write_text(PLUGIN.format(move=move, at_import=at_import))
        return path

    return write


def made(path: Path | None, *overrides: str, method: str = "nearest"):
    raw = recipe()
    raw["recipe"]["plugins"] = [str(TOY), *([str(path)] if path else [])]
    return experiment(*CLEAN, *overrides, methods=(method,), raw=raw)


def eps_error(cache: Path, experiment) -> float:
    ctx = context(cache, experiment)
    record = run_cell(ctx, cell_of(ctx, "nearest"))
    assert record.status == "ok", record.reason
    return record.metrics["eps-error"].value


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The number that nothing has poisoned."""
    return eps_error(tmp_path_factory.mktemp("clean"), made(None))


@pytest.mark.parametrize("move", MOVES)
def test_a_call_that_moves_anything_is_the_plugins_fault_and_everything_is_put_back(move):
    names = {"torch": torch, "numpy": np, "random": random, "F": F}
    exec("import os, warnings", names)
    before = Snapshot()
    with (
        pytest.raises(PluginFault, match=r'metric "moving" of plugin "moving\.py" moved') as caught,
        calling(Call(OWNER, "compute")),
    ):
        exec(move, names)
    assert MOVES[move] in caught.value.message
    assert caught.value.hint.endswith("mend its compute()")
    assert caught.value.exit_code == EXIT_PLUGIN
    assert before.moved() == {}


def test_an_error_of_the_call_is_told_and_state_is_put_back_all_the_same():
    before = Snapshot()
    with pytest.raises(PluginFault, match="ZeroDivisionError"), calling(Call(OWNER, "compute")):
        torch.manual_seed(7)
        raise ZeroDivisionError
    assert before.moved() == {}


def test_networks_may_be_filled_at_random_while_they_are_loaded():
    before = Snapshot()
    with calling(Call(Owner("model", "toy", "toy"), "load")):
        torch.nn.Linear(2, 2)
    assert before.moved() == {}
    with pytest.raises(PluginFault, match="default dtype"), calling(Call(Owner("model", "toy", "toy"), "load")):
        torch.set_default_dtype(torch.float64)


def test_the_innermost_call_is_blamed():
    inner = Call(Owner("loss", "inner", "inner.py"), "losses")
    for _ in range(3):  # at its third call, which would not be looked at by itself
        with pytest.raises(PluginFault) as caught, calling(Call(OWNER, "compute")), calling(inner):
            torch.rand(1)
        assert '"inner" of plugin "inner.py"' in caught.value.message


@pytest.mark.parametrize(
    "move", ["torch.set_default_dtype(torch.float64)", "torch.set_float32_matmul_precision('medium')", *list(MOVES)[-2:]]
)
def test_a_plugin_that_moves_settings_when_it_is_imported_has_no_part_in_numbers(tmp_path, plugin, clean, move, capsys):
    before = Snapshot()
    found = made(plugin(at_import=move))
    assert MOVES[move] in capsys.readouterr().err
    assert before.moved() == {}
    assert eps_error(tmp_path / "cache", found) == clean


@pytest.mark.parametrize("move", ["numpy.random.rand()", "torch.set_default_dtype(torch.float64)"])
def test_a_metric_that_moves_state_fails_its_cell_and_a_later_run_is_clean(tmp_path, plugin, clean, move):
    found = made(plugin(move), "evaluation.metrics=['moving', 'eps-error']")
    ctx = context(tmp_path / "cache", found)
    record = run_cell(ctx, cell_of(ctx, "nearest"))
    assert record.status == "failed"
    assert 'metric "moving" of plugin "moving0.py"' in record.reason
    assert eps_error(tmp_path / "cache", made(None)) == clean


def test_a_quantizer_that_moves_a_setting_fails_its_cell_and_a_later_run_is_clean(tmp_path, plugin, clean):
    found = made(plugin("torch.set_default_dtype(torch.float64)"), "methods.nearest.activations.quantizer=moving")
    ctx = context(tmp_path / "cache", found)
    record = run_cell(ctx, cell_of(ctx, "nearest"))
    assert record.status == "failed"
    assert '"moving" of plugin "moving0.py"' in record.reason
    assert eps_error(tmp_path / "cache", made(None)) == clean


def test_a_weighter_on_a_stream_that_others_draw_from_fails_its_cell(tmp_path, plugin):
    found = made(plugin("torch.rand(1)"), "methods.qdiffusion.weighter=moving", method="qdiffusion")
    ctx = context(tmp_path / "cache", found)
    record = run_cell(ctx, cell_of(ctx, "qdiffusion"))
    assert record.status == "failed"
    assert 'weighter "moving" of plugin "moving0.py" moved the random stream of torch' in record.reason
