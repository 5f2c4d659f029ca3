"""Whose an error is: that of a plugin ends with its name, line and exit code wherever it is raised, a bug of ours does not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from e2ekit import started
from fakes import entry_point_distribution

from ptqbench.boundary.build import build
from ptqbench.boundary.call import Call, Owner, calling, wrapped
from ptqbench.cli import EXIT_BUG, cli
from ptqbench.errors import EXIT_CELL_FAILED, EXIT_PLUGIN, EXIT_USAGE, PluginError, UserError
from ptqbench.failures import blamed
from ptqbench.measuring import features
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.sources import import_file, read_plugin_file
from ptqbench.recipe.load import load_experiment
from ptqbench.running import tasks
from ptqbench.running.run import run_experiment
from ptqbench.stage.context import Settings

PLUGIN = '''"""A model, features, a metric and a reporter that raise an error at the place that an option names."""

import torch
from torch import nn

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.features import FeatureExtractor
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench.roles.model import DiffusionModel, ModelSource
from ptqbench.roles.reporter import Reporter
from ptqbench.roles.sampler import CalibrationSampler


class Where(Options):
    where: str = ""


class Stubborn(Exception):
    """Cannot be brought from a worker to the process that waits for it."""

    def __init__(self, one, other):
        super().__init__(f"{one} {other}")


def at(place, options):
    if place == options.where:
        raise Stubborn("not", "there")  # the line


class Source(ModelSource):
    options: Where

    def fingerprint(self):
        at("fingerprint", self.options)
        return "model"

    def load(self, device):
        at("load", self.options)
        torch.manual_seed(0)

        def call(denoiser, x, t, cond):
            at("call", self.options)
            return denoiser(torch.ones(3, 5) @ x if self.options.where == "torch" else x)

        def conditions(ids, branch):
            at("conditions", self.options)
            return {}

        def decode(x):
            at("decode", self.options)
            return x.clamp(-1, 1)

        alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
        net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)).to(device).eval().requires_grad_(False)
        return DiffusionModel(net, call, alphas, (1, 8, 8), decode, conditions)

    def reference_images(self):
        at("reference", self.options)
        return torch.zeros(8, 1, 8, 8, dtype=torch.uint8)


class Features(FeatureExtractor):
    options: Where

    def fingerprint(self):
        at("fingerprint", self.options)
        return "features"

    def outputs(self):
        at("outputs", self.options)
        return {"pool": 1}

    def prepare(self, device):
        at("prepare", self.options)

    def extract(self, images):
        at("extract", self.options)
        return {"pool": images.float().mean((1, 2, 3))[:, None]}


class Mean(Metric):
    options: Where
    reads = ("pool",)

    def names(self, extractor):
        at("names", self.options)
        return ["mean"]

    def compute(self, evidence):
        at("compute", self.options)
        return {"mean": MetricValue(0.0, 0.0, 0.0, n=8)}


class Sampler(CalibrationSampler):
    def select(self, grid, n, rng):
        at("", Where())


class Page(Reporter):
    suffix = ".page"

    def render(self, run, width=None):
        raise LookupError("no page")


@hookimpl
def ptqbench_components():
    return [
        Component("model", "bad-model", "fails", Source, Where),
        Component("features", "bad-features", "fails", Features, Where),
        Component("metric", "bad-metric", "fails", Mean, Where),
        Component("sampler", "bad-sampler", "fails", Sampler),
        Component("reporter", "bad-page", "fails", Page),
    ]
'''

LINE = next(i for i, line in enumerate(PLUGIN.splitlines(), 1) if "# the line" in line)

RECIPE = """
[recipe]
name = "bad"
baseline = "nearest"
plugins = ["bad.py"]
[model]
use = "bad-model"
[sampling]
steps = 2
images = 8
[calibration]
trajectories = 4
samples = 8
[evaluation]
features = "bad-features"
metrics = ["bad-metric"]
probes = 2
[methods.nearest]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "bad.py").write_text(PLUGIN)
    path = tmp_path / "bad.toml"
    path.write_text(RECIPE)
    return path


FITTED = 'methods.fitted={sampler="random", reconstruction="brecq", partitioner="layers", weights={quantizer="adaround"}}'
"""A method that has something to fit."""


def words(command: str, recipe: Path, *overrides: str) -> list[str]:
    folder = recipe.parent
    given = [word for override in overrides for word in ("--set", override)]
    out = ["--out", str(folder / "out"), "--workers", "1"] if command != "plan" else []
    more = ["--groups", "2"] if command == "diagnose" else []
    return [command, str(recipe), "--cache", str(folder / "cache"), "--device", "cpu", *out, *more, *given]


def ptqbench(*args: str, **env: str) -> Result:
    return CliRunner(env=env).invoke(cli, list(args))


SHARED = [
    ("model", "fingerprint", 'fingerprint() of the model source "bad-model"'),
    ("model", "load", 'load() of the model source "bad-model"'),
    ("model", "call", 'call() of the model source "bad-model"'),
    ("model", "conditions", 'conditions() of the model source "bad-model"'),
    ("model", "decode", 'decode() of the model source "bad-model"'),
    ("model", "reference", 'reference_images() of the model source "bad-model"'),
    ("evaluation.features", "fingerprint", 'fingerprint() of the feature extractor "bad-features"'),
    ("evaluation.features", "outputs", 'outputs() of the feature extractor "bad-features"'),
    ("evaluation.features", "prepare", 'prepare() of the feature extractor "bad-features"'),
    ("evaluation.features", "extract", 'extract() of the feature extractor "bad-features"'),
    ("evaluation.metrics", "names", 'names() of the metric "bad-metric"'),
]


def failing(role: str, where: str) -> str:
    name = {"model": "bad-model", "evaluation.features": "bad-features", "evaluation.metrics": "bad-metric"}[role]
    table = f'{{use="{name}", where="{where}"}}'
    return f"{role}=[{table}]" if role.endswith("s") and "metrics" in role else f"{role}={table}"


@pytest.mark.parametrize(("role", "where", "named"), SHARED)
def test_an_error_in_what_cells_share_names_the_plugin_what_was_called_and_its_line(recipe, role, where, named):
    experiment = load_experiment(recipe, overrides=[failing(role, where)])
    with pytest.raises(PluginError) as caught:
        run_experiment(experiment, Settings(recipe.parent / "cache", "cpu", 1, 1), lambda *_: None, lambda _: None)
    said = caught.value.message
    assert said.startswith(f'plugin "bad.py" failed in {named}')
    assert f": Stubborn: not there at {recipe.parent / 'bad.py'}:{LINE}" in said
    assert caught.value.exit_code == EXIT_PLUGIN


def test_the_recipe_is_right_without_an_error(recipe):
    done = ptqbench(*words("run", recipe))
    assert done.exit_code == 0, done.output
    assert not (recipe.parent / "out" / "errors").exists()


def test_the_stage_is_named_and_an_error_inside_a_library_has_the_plugins_own_line(recipe):
    done = ptqbench(*words("run", recipe, failing("model", "torch")))
    assert done.exit_code == EXIT_PLUGIN, done.output
    line = next(i for i, text in enumerate(PLUGIN.splitlines(), 1) if "torch.ones(3, 5)" in text)
    assert 'error: plugin "bad.py" failed in call() of the model source "bad-model": RuntimeError' in done.stderr
    # The trial forward before anything is computed meets it, so no stage is named.
    assert f"at {recipe.parent / 'bad.py'}:{line}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_say_it_like_one_process_also_of_errors_that_cannot_be_sent(recipe):
    args = [word if word != "1" else "2" for word in words("run", recipe, failing("model", "call"))]
    with started("--traceback", *args) as process:
        done = process.ended()
    assert done.returncode == EXIT_PLUGIN, done.stderr
    traceback, _, message = done.stderr.rpartition("error: ")
    assert re.match(rf'plugin "bad\.py" failed in call\(\) of .*: Stubborn: .*bad\.py:{LINE}\n', message)
    assert 'raise Stubborn("not", "there")' in traceback


def test_diagnose_and_plan_say_it_as_well(recipe):
    for command, *more in (("plan", failing("evaluation.metrics", "names")), ("diagnose", failing("model", "load"), FITTED)):
        done = ptqbench(*words(command, recipe, *more))
        assert done.exit_code == EXIT_PLUGIN, done.output
        assert 'error: plugin "bad.py" failed in ' in done.stderr


FAULTS = {
    "the model's files": ('model={use="digits", folder="none"}', EXIT_USAGE),
    "the plugin": (failing("model", "decode"), EXIT_PLUGIN),
    "the cell": (
        FITTED.replace('"random"', '{use="stride", points=1}').replace("}}", '}, weighter={use="gacq", groups=2}}'),
        5,
    ),
}


@pytest.mark.parametrize(("fault", "code"), FAULTS.values(), ids=FAULTS)
def test_commands_agree_on_whose_a_fault_is(recipe, fault, code):
    """`check-recipe` loads no class and no weights: what it can know it tells, and never as anybody else's."""
    found = {command: ptqbench(*words(command, recipe, fault)).exit_code for command in ("plan", "run", "diagnose")}
    assert found == dict.fromkeys(found, code)
    assert ptqbench("check-recipe", str(recipe), "--set", fault).exit_code in (0, code)


def test_a_cell_that_cannot_be_observed_leaves_its_traceback(recipe):
    done = ptqbench(*words("diagnose", recipe, FITTED.replace("random", "bad-sampler")))
    assert done.exit_code == EXIT_CELL_FAILED, done.output
    path = recipe.parent / "out" / "errors" / "fitted-W8A8-seed0.txt"
    failed = 'fitted/W8A8/seed0 failed: plugin "bad.py" failed in select() of the sampler "bad-sampler": Stubborn: not there'
    assert f"{failed} at {recipe.parent / 'bad.py'}:{LINE}; traceback: {path}\n" in done.stderr
    assert "in select" in path.read_text()


def test_a_reporter_that_fails_hides_nothing_else(recipe):
    """Not which cells failed and why, nor the tables of other reporters, nor the picture."""
    stale = recipe.parent / "out" / "errors" / "nearest-W8A8-seed0.txt"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    sampled = 'methods.sampled={sampler="bad-sampler"}'
    done = ptqbench(*words("run", recipe, 'report.formats=["bad-page", "markdown"]', sampled))
    assert done.exit_code == EXIT_PLUGIN, done.output
    assert done.stderr.rpartition("error: ")[2].startswith('plugin "bad.py" failed in render() of the reporter "bad-page"')
    assert re.search(rf"sampled/W8A8/seed0 failed: .*: Stubborn: not there at .*bad\.py:{LINE}; traceback: ", done.stderr)
    left = {str(path.relative_to(recipe.parent / "out")) for path in (recipe.parent / "out").rglob("[!.]*.*")}
    assert left == {"results.json", "errors/sampled-W8A8-seed0.txt", "table.md", "samples.png"}
    assert "sampled" in done.stdout, "the table on the terminal"


def test_a_bug_of_ours_that_no_plugin_had_a_part_in_names_none(recipe, monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(features, "feature_info", broken)
    done = ptqbench(*words("run", recipe))
    assert done.exit_code == EXIT_BUG
    assert "Traceback" in done.stderr
    assert "this is a bug in ptqbench" in done.stderr
    assert "unless of a plugin" not in done.stderr


CALLING = """
from ptqbench.plugin.names import nearest

def helper(*args):
    return nearest(*args)

def out_of_memory():
    raise MemoryError

def too_much():
    import torch
    torch.empty(1 << 60)

def missing(path):
    open(path)

def unnamed():
    raise OSError("no such model")

def full():
    raise OSError(28, "No space left on device")

def refuse():
    from ptqbench.errors import UserError
    raise UserError("no")
"""


@pytest.fixture
def plugin(tmp_path: Path):
    """Functions of a plugin as the core calls them."""
    path = tmp_path / "trial.py"
    path.write_text(CALLING)
    module = import_file(read_plugin_file(path))
    call = Call(Owner("weighter", "trial", "trial.py", module.__name__), "weights")
    return lambda name: wrapped(call, getattr(module, name))


def test_what_the_core_raised_when_a_plugin_called_it_is_not_told_as_the_plugins(plugin):
    with pytest.raises(AttributeError) as caught, blamed():
        plugin("helper")(None, [1])
    (note,) = caught.value.__notes__
    assert note.startswith('ptqbench was called by plugin "trial.py" in weights() of the weighter "trial", at ')
    assert note.endswith("trial.py:5")


def test_the_innermost_plugin_that_was_called_is_to_blame(plugin):
    outer = Call(Owner("reconstruction", "other", "other.py", "other"), "fit")
    with pytest.raises(PluginError, match=r'plugin "trial.py" failed in weights\(\)'), calling(outer):
        plugin("unnamed")()


def test_memory_that_ran_out_is_no_plugins_fault(plugin):
    with pytest.raises(UserError, match=r"memory ran out \(images\)") as caught, blamed("images"):
        plugin("out_of_memory")()
    assert caught.value.exit_code == EXIT_USAGE
    assert "sampling.batch" in caught.value.hint


def test_memory_of_a_cpu_is_known_by_its_words(plugin):
    with pytest.raises(UserError, match=r"^memory ran out: RuntimeError: .*DefaultCPUAllocator") as caught, blamed():
        plugin("too_much")()
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(12, "Cannot allocate memory"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_ran_out_in_the_core_is_known_by_its_error(error):
    with pytest.raises(UserError, match=rf"^memory ran out \(images\): {type(error).__name__}: ") as caught, blamed("images"):
        raise error
    assert caught.value.exit_code == EXIT_USAGE


def test_memory_that_ran_out_in_the_core_is_no_bug_of_ours(recipe, monkeypatch):
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tasks, "trajectory_shard", broken)
    done = ptqbench(*words("run", recipe))
    assert done.exit_code == EXIT_USAGE, done.output
    assert "error: memory ran out (calibration trajectories, seed 0): MemoryError: \n" in done.stderr
    assert "sampling.batch, calibration.batch" in done.stderr


def test_a_file_that_a_plugin_cannot_use_is_told_like_any_with_the_plugins_line(plugin, tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(UserError) as caught, blamed("images"):
        plugin("missing")(path)
    assert type(caught.value) is UserError
    assert caught.value.message == f"{path}: no such file or directory"
    first, second = caught.value.hint.splitlines()
    assert first == "check the name, and that its folder exists"
    line = CALLING.splitlines().index("    open(path)") + 1
    assert second == f'the plugin "trial.py" needs it in weights() of the weighter "trial" at {tmp_path / "trial.py"}:{line}'


def test_a_system_error_that_names_no_file_is_the_plugins(plugin):
    with pytest.raises(PluginError, match=r"failed in weights.*: OSError: no such model"), blamed():
        plugin("unnamed")()


def test_a_full_disk_and_errors_of_users_stay_what_they_are(plugin):
    with pytest.raises(OSError, match="No space left"), blamed():
        plugin("full")()
    with pytest.raises(UserError, match=r"^no$") as caught, blamed():
        plugin("refuse")()
    assert type(caught.value) is UserError


INSTALLED = """
import click
from ptqbench import Component, hookimpl

@hookimpl
def ptqbench_components():
    return [Component("reporter", "m", "m", "elsewhere_reports.all:M")]

@click.command("trial")
def trial():
    raise ValueError("oh")

@click.command("misuse")
def misuse():
    from ptqbench.plugin.names import nearest
    nearest("a", [1])

@click.command("read")
@click.argument("path")
def read(path):
    open(path)

@hookimpl
def ptqbench_commands():
    return [trial, misuse, read]
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two plugins in one package, and a component in a package of its own."""
    other = "from ptqbench import hookimpl\n@hookimpl\ndef ptqbench_components():\n    return []\n"
    names = ("acme_failures/__init__.py", "acme_failures/one.py", "acme_failures/two.py", "elsewhere_reports/__init__.py")
    head = "from ptqbench.roles.reporter import Reporter"
    reporter = f"{head}\nclass M(Reporter):\n    def render(self, run):\n        raise ValueError('oh')\n"
    sources = dict(zip(names, ("", INSTALLED, other, ""), strict=True)) | {"elsewhere_reports/all.py": reporter}
    entries = {"one": "acme_failures.one", "two": "acme_failures.two"}
    for loaded in [name for name in sys.modules if name.startswith(("acme_failures", "elsewhere_reports"))]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.syspath_prepend(str(entry_point_distribution(tmp_path, "acme-failures", entries, sources)))


@pytest.mark.usefixtures("installed")
def test_installed_plugins_are_named_by_their_entry_point(tmp_path):
    done = ptqbench("trial")
    assert done.exit_code == EXIT_PLUGIN
    words = 'plugin "one" failed in the command "trial": ValueError: oh at'
    assert f"{words} {tmp_path}/acme_failures/one.py:11\n" in done.stderr
    with pytest.raises(PluginError, match=r'plugin "one" failed in render.*: ValueError: oh at .*all.py:4'):
        build(PluginManager().default("reporter", "m")).render(None)


@pytest.mark.usefixtures("installed")
def test_a_file_that_a_plugins_command_cannot_use_exits_like_any_other(tmp_path):
    done = ptqbench("read", str(tmp_path / "none"))
    assert done.exit_code == EXIT_USAGE, done.output
    assert done.stderr.startswith(f"error: {tmp_path / 'none'}: no such file or directory\n")
    assert f'the plugin "one" needs it in the command "read" at {tmp_path}/acme_failures/one.py:' in done.stderr


@pytest.mark.usefixtures("installed")
def test_an_error_of_the_core_that_a_plugin_called_names_both(tmp_path):
    done = ptqbench("misuse")
    assert done.exit_code == EXIT_BUG
    whose = f'called by plugin "one" in the command "misuse", at {tmp_path}/acme_failures/one.py:16): please report'
    assert whose in done.stderr


@pytest.mark.usefixtures("installed")
def test_the_traceback_is_shown_to_those_who_ask():
    assert "Traceback" not in ptqbench("trial").stderr
    for done in (ptqbench("--traceback", "trial"), ptqbench("trial", PTQBENCH_TRACEBACK="1")):
        assert done.exit_code == EXIT_PLUGIN
        assert 'raise ValueError("oh")' in done.stderr
        assert done.stderr.index("Traceback") < done.stderr.index("error: plugin")
    assert "Traceback" not in ptqbench("trial").stderr, "the flag does not outlive its command"


def test_the_traceback_of_a_plugin_that_does_not_load(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def inner():\n    return {}['a']\n\ninner()\n")
    done = ptqbench("--traceback", "list", "--plugin", str(path))
    assert done.exit_code == EXIT_PLUGIN
    assert "in inner" in done.stderr
    assert "in inner" not in ptqbench("list", "--plugin", str(path)).stderr
