"""Classes of components are held to their role's interface before anything is computed."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from e2ekit import write_recipe

from ptqbench.cli import cli
from ptqbench.errors import PluginError
from ptqbench.plugin.classes import check_class, check_classes
from ptqbench.plugin.component import Bound, Component
from ptqbench.plugin.hookspecs import ROLES
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.range import RangeEstimator
from ptqbench.roles.reporter import Reporter
from ptqbench.roles.weighter import SampleWeighter


class Bare:
    """Of no interface."""

    def weights(self, batch, problem):
        return None


class Incomplete(SampleWeighter):
    """Lacks what it is asked for, but for a slip of the pen."""

    def wieghts(self, batch, problem):
        return None


class NoArguments(SampleWeighter):
    """Cannot be built with options."""

    def __init__(self):
        pass

    def weights(self, batch, problem):
        return None


class NoLevels(RangeEstimator):
    """Takes options but nothing else."""

    def __init__(self, options):
        self.options = options

    def observe(self, values):
        return None

    def grid(self):
        return None


class TwoArguments(SampleWeighter):
    """Was written for another version."""

    def weights(self, batch):
        return None


class MoreArguments(SampleWeighter):
    """Wants what nobody gives."""

    def weights(self, batch, problem, rng):
        return None


class Keyword(Reporter):
    """Lacks an argument that is given by name."""

    def render(self, run):
        return ""


class Misspelt(SampleWeighter):
    """Reports in vain."""

    def weights(self, batch, problem):
        return None

    def reports(self):
        return {}


class OfTheClass(Quantizer):
    """Complete, but for an argument of its class method."""

    observe = freeze = forward = export = restore = lambda *_: None

    @classmethod
    def offers(cls):
        return frozenset()


WRONG = {
    "too few arguments": (
        "weighter",
        TwoArguments,
        r"its weights\(\) does not take .*: too many pos",
        "def weights(self, batch",
    ),
    "too many arguments": (
        "weighter",
        MoreArguments,
        r"its weights\(\) does not .*missing a required .*'rng'",
        "problem",
    ),
    "no keyword": ("reporter", Keyword, r"its render\(\) does not .*unexpected keyword argument 'width'", "width"),
    "class method": (
        "weight-quantizer",
        OfTheClass,
        r"its offers\(\) does not .*too many",
        "def offers(cls, options",
    ),
    "misspelt": ("weighter", Misspelt, r"its reports\(\) is called by nobody", "did you mean report?"),
    "no subclass": ("weighter", Bare, "no subclass of SampleWeighter", "from ptqbench.roles.weighter import SampleWeighter"),
    "abstract": (
        "weighter",
        Incomplete,
        r"lacks weights\(\), which SampleWeighter asks for",
        "wieghts is perhaps meant as weights",
    ),
    "constructor": ("weighter", NoArguments, r"cannot be built as NoArguments\(options\)", "leave out __init__"),
    "context": (
        "range",
        NoLevels,
        r"cannot be built as NoLevels\(options, levels=...\)",
        "ptqbench.roles.range.RangeEstimator",
    ),
    "other role": ("loss", NoArguments, "no subclass of LossTerm", "ptqbench.roles.loss"),
    "no module": ("weighter", "no_such_module:W", "cannot be imported from no_such_module:W: ModuleNotFoundError", "target"),
    "no name": ("weighter", "json:W", "cannot be imported from json:W: AttributeError", "target"),
    "no class": ("weighter", "json:dumps", "is function and no class", "name a class"),
}


@pytest.mark.parametrize(("role", "target", "message", "hint"), WRONG.values(), ids=WRONG)
def test_a_class_that_cannot_be_used_is_named_with_what_is_missing(role, target, message, hint):
    with pytest.raises(PluginError, match=message) as caught:
        check_class(Component(role, "w", "wrong", target), "mine.py")
    assert '"w" of plugin "mine.py"' in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("source", "reason"), [("1 / 0\n", "ZeroDivisionError: division by zero"), ("\nexit(0)\n", r"it called sys.exit\(0\)")]
)
def test_a_module_that_breaks_is_told_with_its_line(source, reason, tmp_path, monkeypatch):
    (tmp_path / "trial_breaking.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=rf"{reason} at .*trial_breaking.py:\d"):
        check_class(Component("weighter", "w", "wrong", "trial_breaking:W"), "mine")


def test_all_that_cannot_be_used_is_told_at_once():
    def bound(name: str, target: object) -> Bound:
        component = Component("weighter", name, "wrong", target)
        return Bound(component, component.options(), "mine.py", "")

    with pytest.raises(PluginError, match="2 components cannot be used") as caught:
        check_classes([bound("a", Bare), bound("b", Helpers), bound("c", Incomplete), bound("a", Bare)])
    assert '1. the weighter "a"' in caught.value.message and '2. the weighter "c"' in caught.value.message
    assert "wieghts is perhaps meant as weights" in caught.value.message


class Helpers(SampleWeighter):
    """Methods of its own, and others that take more than they are given."""

    def weights(self, batch, problem=None, *more):
        return None

    def report(self, *args, **kwargs):
        return {}

    def weight_of(self, sample):
        return 1.0


def test_methods_of_its_own_and_wider_signatures_are_no_mistake():
    assert check_class(Component("weighter", "w", "right", Helpers), "mine.py") is Helpers


def test_every_role_names_an_interface_that_is_there():
    for role in ROLES:
        module, _, name = role.path.rpartition(".")
        assert hasattr(__import__(module, fromlist=[name]), name)


PLUGIN = """
from ptqbench import Component, hookimpl

class W:
    def weights(self, batch, problem):
        return 1

@hookimpl
def ptqbench_components():
    return [Component("weighter", "bare", "of no interface", W)]
"""


@pytest.mark.parametrize("command", ["plan", "run", "diagnose"])
def test_nothing_is_computed_with_a_class_that_cannot_be_used(command, tmp_path):
    (tmp_path / "bare.py").write_text(PLUGIN)
    recipe = write_recipe(tmp_path, "bare.py", weighter="bare")
    cache = tmp_path / "cache"
    args = [command, str(recipe), "--device", "cpu", "--cache", str(cache)]
    out = [] if command == "plan" else ["--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, [*args, *out])
    assert result.exit_code == 3, result.output
    assert 'the weighter "bare" of plugin "bare.py" cannot be used' in result.stderr
    assert "SampleWeighter" in result.stderr
    assert {entry.parent.name for entry in cache.glob("[!.]*/*")} <= {"protocol"}
