"""Plugins that are wrong in many ways: each is caught, and told what would be right."""

import pytest
import torch
from click.testing import CliRunner

from ptqbench.cli import cli
from ptqbench.errors import EXIT_PLUGIN, PluginError, UserError
from ptqbench.kit.scaffold import plugin_files
from ptqbench.testing import check, components

HEAD = """
import torch
from pydantic import Field
from ptqbench import Component, Options, hookimpl
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.hook import SamplerHook
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench.roles.sampler import CalibrationSampler, Selection
from ptqbench.roles.weighter import SampleWeighter
from ptqbench.sampling.rng import NoiseSource


class Settings(Options):
    names: list[str] = Field(["a"], description="some names")
    factor: float = Field(2.0, description="a factor")

"""
HOOK = """

@hookimpl
def ptqbench_components():
    return [Component("{role}", "wrong", "is wrong", Wrong, Settings)]
"""

WEIGHTER = "class Wrong(SampleWeighter):\n    def weights(self, batch, problem):\n        "
SAMPLER = "class Wrong(CalibrationSampler):\n    def select(self, grid, n, rng):\n        "
METRIC = """class Wrong(Metric):
    def names(self, extractor):
        return ["wrong"]

    def compute(self, evidence):
        return {"wrong": MetricValue(float("nan"), 0.0, 1.0, 40)}
"""
WIDE = """class Wrong(UniformQuantizer):
    def forward(self, x, group=None):
        grid = self._grid(x, group)
        return ((x / grid[0]).round() + grid[1]).clamp(-1000, 1000).sub(grid[1]) * grid[0]
"""
LEAK = """class Wrong(SamplerHook):
    def fit(self, pairs):
        noise = NoiseSource(0, "images", range(4), (1, 8, 8)).draw()
        return {"mean": noise.mean(0)}

    def restore(self, state):
        self.mean = state["mean"]
"""

WRONG = {
    "wrong shape": ("weighter", WEIGHTER + "return torch.ones(len(batch), 1)", ("gave float32", "as weights"), "(8,)"),
    "not a number": ("metric", METRIC, ("gave nan as value of wrong",), "raise CellFailedError"),
    "unseeded randomness": (
        "sampler",
        SAMPLER + "order = torch.randperm(grid.steps * grid.trajectories)[:n]\n"
        "        return Selection(order % grid.trajectories, order // grid.trajectories)",
        ("moved the random stream of torch in select()",),
        "draw from a generator of your own, or from the one that the call is given",
    ),
    "default dtype": (
        "weighter",
        "torch.set_default_dtype(torch.float64)\n" + WEIGHTER + "return torch.ones(len(batch))",
        ('the plugin "wrong.py" moves', "default dtype", "on import"),
        "a module only defines things",
    ),
    "prints": (
        "weighter",
        "print('hello')\n" + WEIGHTER + "return torch.ones(len(batch))",
        ("the plugin \"wrong.py\" prints on import: 'hello'",),
        "print in functions, or not at all",
    ),
    "changes an option": (
        "weighter",
        WEIGHTER + "self.options.factor = 3.0\n        return torch.ones(len(batch))",
        ("failed in weights()", "the options of a component cannot be changed"),
        "mend the plugin",
    ),
    "changes what lies in an option": (
        "weighter",
        WEIGHTER + "self.options.names.append('b')\n        return torch.ones(len(batch))",
        ("failed in weights()", "the options of a component cannot be changed", "or change a copy"),
        "mend the plugin",
    ),
    "exchanges its options": (
        "weighter",
        WEIGHTER + "self.options = Settings(factor=3.0)\n        return torch.ones(len(batch))",
        ("changed its own options",),
        "keep what you compute in attributes",
    ),
    "grid too wide": ("activation-quantizer", WIDE, ("used the codes",), "a grid of 4 bits has 0..15"),
    "evaluation seed": (
        "sampler-hook",
        LEAK,
        ("asked for the noise of images, which methods are measured on",),
        "calibrate on what the call is given",
    ),
}


@pytest.mark.parametrize(("role", "body", "words", "remedy"), WRONG.values(), ids=WRONG)
def test_a_wrong_plugin_is_caught_and_told_what_would_be_right(tmp_path, role, body, words, remedy):
    path = tmp_path / "wrong.py"
    path.write_text(HEAD + body + HOOK.format(role=role))
    (trial,) = components(path)
    before = torch.random.get_rng_state()
    with pytest.raises(PluginError) as caught:
        check(trial)
    assert all(word in caught.value.message for word in words), caught.value.message
    assert "wrong" in caught.value.message
    assert remedy in caught.value.hint
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_command_says_the_same_and_ends_with_the_code_of_plugins(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(HEAD + METRIC + HOOK.format(role="metric"))
    done = CliRunner().invoke(cli, ["plugin", "check", str(path)])
    assert done.exit_code == EXIT_PLUGIN
    assert done.stdout.splitlines()[0] == 'metric "wrong"'
    assert 'the metric "wrong" of plugin "wrong.py" gave nan as value of wrong' in done.stdout
    assert "raise CellFailedError where a number would mean nothing" in done.stdout


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"factor": -1}, "factor: must be greater than 0.0, not -1", "--set my-idea.factor=..."),
        ({"fcator": 2}, "fcator: unknown option", 'did you mean "factor"? allowed: factor'),
    ],
)
def test_options_that_do_not_fit_are_told_in_the_words_of_recipes(tmp_path, options, message, hint):
    (tmp_path / "idea.py").write_text(plugin_files("my-idea", "weighter", single=True)["my_idea.py"])
    with pytest.raises(UserError) as caught:
        components(tmp_path / "idea.py", {"my-idea": options})
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert ("--set" in caught.value.hint) == ("factor" in options)


def test_options_that_do_not_fit_each_other_are_told_without_a_name(tmp_path):
    check = '\n    @model_validator(mode="after")\n    def _order(self):\n        raise ValueError("late comes after early")\n'
    head = HEAD.replace("import Field", "import Field, model_validator").rstrip() + "\n" + check
    (tmp_path / "wrong.py").write_text(head + WEIGHTER + "return torch.ones(len(batch))" + HOOK.format(role="weighter"))
    with pytest.raises(UserError, match=r"cannot be tried with these options: is not accepted \(late comes after early\)"):
        components(tmp_path / "wrong.py")


def test_a_plugin_that_is_not_installed_is_told_with_those_that_are_each_once():
    with pytest.raises(UserError) as caught:
        components("gaqc")
    names = caught.value.hint.partition("installed: ")[2].split(", ")
    assert 'did you mean "gacq"?' in caught.value.hint
    assert "gacq" in names and "ptqbench_gacq" not in names
