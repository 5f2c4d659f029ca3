from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from fakes import entry_point_distribution, fake_manager

from ptqbench.errors import PluginError, UserError
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.records import Record

LATE = """
from ptqbench import Component, Preset, hookimpl
{extra}
class Late: ...
@hookimpl
def ptqbench_components():
    return [Component("weighter", "late", "prefer late timesteps", {target})]
"""


def late(target: str = "Late", extra: str = "") -> str:
    return LATE.format(target=target, extra=extra)


SHORT = """
from ptqbench import Preset, hookimpl
@hookimpl
def ptqbench_components():
    return [Preset("short", "in short", {table})]
"""


def preset(table: str) -> str:
    return SHORT.format(table=table)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Only distributions made by the test are installed; the function installs one."""
    made: list[Path] = []
    monkeypatch.setattr(
        "ptqbench.plugin.manager.entry_points",
        lambda group: [e for e in entry_points(group=group) if e.dist.name.startswith("trial")],
    )
    before = set(sys.modules)

    def install(dist: str, entries: dict[str, str], sources: dict[str, str]) -> Path:
        made.append(entry_point_distribution(tmp_path / dist, dist, entries, sources))
        monkeypatch.syspath_prepend(str(made[-1]))
        return made[-1]

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("trial"):
            del sys.modules[name]


def loaded(warnings: list[str], block: str = "") -> PluginManager:
    return PluginManager(block=block, warn=warnings.append)


def test_a_distribution_with_an_entry_point_is_found_without_loading_its_target(alone):
    sources = {"trial_a/__init__.py": late('"trial_a.heavy:Late"'), "trial_a/heavy.py": "raise RuntimeError"}
    alone("trial-a", {"a": "trial_a"}, sources)
    warnings: list[str] = []
    record = loaded(warnings).find("weighter", "late")
    assert (record.plugin.name, record.plugin.distribution, record.plugin.version) == ("a", "trial-a", "1.0")
    assert warnings == []
    assert "trial_a.heavy" not in sys.modules


def test_a_plugin_that_raises_on_import_costs_one_warning_and_nothing_else(alone, capsys):
    alone("trial-bad", {"bad": "trial_bad"}, {"trial_bad.py": "print('noise')\nraise ValueError('no\\nluck')"})
    alone("trial-good", {"good": "trial_good"}, {"trial_good.py": late()})
    warnings: list[str] = []
    manager = loaded(warnings)
    assert [record.name for record in manager.components()] == ["late"]
    assert len(warnings) == 1
    for part in ('"bad"', "trial-bad 1.0", "ValueError: no luck", "trial_bad.py:2", "PTQBENCH_BLOCK=bad"):
        assert part in warnings[0]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import trial_nowhere_to_be_found", "No module named"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "sys.exit(3)"),
        (late().replace("ptqbench_components", "ptqbench_compnoents"), 'did you mean "ptqbench_components"'),
        (late().replace("@hookimpl", ""), "mark ptqbench_components with @hookimpl"),
        (late().replace("()", "(wrong)"), "ptqbench_components"),
        (
            late().replace('"weighter"', '"weigther"'),
            '"late" is of the role \'weigther\', which is none; did you mean "weighter"',
        ),
        (late().replace('"weighter"', "3"), "roles are sampler, weighter"),
        (late().replace('"weighter", ', ""), "missing 1 required positional argument"),
        (late().replace("return [", "raise KeyError('x'); ["), "KeyError"),
        (late().replace("return [", "["), "returned NoneType instead of a list of Component"),
        (late().replace("return [", "return 3; ["), "returned int instead of a list of Component"),
        (late().replace("return [", "return ['late']; ["), "a list with str instead of Component"),
        (late().replace('"late"', '"a/b"'), "no component name"),
        (late('"trial.late"'), "neither"),
        (late().replace("return [", 'return [Component("weighter", "late", "", Late), '), "the weighter late twice"),
        (late("Late, options=dict"), "no subclass of ptqbench.Options"),
        (late("Late, deviations=('no tuple')"), '`deviations` of "late" is no tuple of strings'),
        (late("Late, released=(3,)"), '`released` of "late" is no tuple of strings'),
        (preset("{}, deviations=('no tuple')"), '`deviations` of "short" is no tuple of strings'),
        (preset("{}, unstated=['no tuple']"), '`unstated` of "short" is no tuple of strings'),
        (preset("3"), "is int instead of a table"),
        (preset("{'extends': 'plain'}"), "has the key extends"),
        (preset("{'method': 'other'}"), "has the key method"),
        (preset("{'weights': {3: 4}}"), "has the key 3, which is no string"),
        (preset("{'weighter': None}"), "holds None: a recipe can say strings"),
        (preset("{'passes': [{'use': Preset}]}"), "holds <class"),
        (preset("{}").replace('"short"', '"Short Name"'), "no preset name"),
        (preset("{}").replace('"in short"', "5"), 'the summary of "short" is no string'),
        (preset("{}").replace("return [", "return [Preset('short', '', {}), "), "the method preset short twice"),
        (
            preset("{}").replace("return [", "return Preset('short', '', {}); ["),
            "returned Preset instead of a list of Component",
        ),
        (preset("{}, extends=3"), 'what "short" extends is no string'),
        (preset("{}, paper=3"), 'the paper of "short" is no string'),
    ],
)
def test_a_broken_plugin_is_left_out_with_its_reason(alone, source, reason):
    alone("trial-bad", {"bad": "trial_bad"}, {"trial_bad.py": source})
    warnings: list[str] = []
    manager = loaded(warnings)
    assert len(warnings) == 1
    assert reason in warnings[0]
    assert manager.offers() == ()
    assert manager.plugins == []


def test_a_plugin_with_one_bad_hook_leaves_nothing_behind(alone):
    bad = "\n@hookimpl\ndef ptqbench_commands(wrong):\n    return []\n"
    alone("trial-bad", {"bad": "trial_bad"}, {"trial_bad.py": late() + bad})
    manager = loaded([])
    assert manager.components() == ()
    assert manager._hooks.get_plugins() == set()


def test_missing_component_is_a_plugin_error_only_if_a_plugin_was_left_out(alone):
    alone("trial-bad", {"bad": "trial_bad"}, {"trial_bad.py": "1 / 0"})
    with pytest.raises(PluginError) as caught:
        loaded([]).find("weighter", "late")
    assert "ZeroDivisionError" in caught.value.hint
    with pytest.raises(UserError) as blameless:
        fake_manager().find("weighter", "gaqc")
    assert blameless.value.exit_code == 2
    assert 'did you mean "gacq"' in blameless.value.hint


def test_blocking_by_name_and_as_a_whole(alone):
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": late()})
    alone("trial-b", {"b": "trial_b"}, {"trial_b.py": late().replace('"late"', '"other"')})
    assert [r.name for r in loaded([], "a").components()] == ["other"]
    everything = loaded([], "*")
    assert everything.components() == ()
    assert [info.name for info in everything.blocked] == ["a", "b"]
    with pytest.raises(PluginError, match='no weighter called "late"'):
        everything.find("weighter", "late")


def test_a_clash_names_both_and_qualified_names_settle_it(alone):
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": late()})
    alone("trial-b", {"b": "trial_b"}, {"trial_b.py": late()})
    manager = loaded([])
    with pytest.raises(PluginError) as caught:
        manager.find("weighter", "late")
    assert "trial-a 1.0" in caught.value.message
    assert "trial-b 1.0" in caught.value.message
    assert '"a/late" or "b/late"' in caught.value.hint
    assert manager.find("weighter", "b/late").plugin.name == "b"
    assert [len(manager.clashes(record)) for record in manager.components()] == [1, 1]


def test_two_distributions_with_one_plugin_name_stay_apart(alone):
    alone("trial-a", {"same": "trial_a"}, {"trial_a.py": late()})
    alone("trial-b", {"same": "trial_b"}, {"trial_b.py": late()})
    assert [info.name for info in loaded([]).plugins] == ["same@trial-a", "same@trial-b"]


def test_a_single_file_plugin(tmp_path):
    file = tmp_path / "late.py"
    file.write_text(late())
    manager = PluginManager(installed=False)
    info = manager.load_file(file)
    assert manager.load_file(file) == info
    record = manager.find("weighter", "late")
    assert record == manager.find("weighter", "late.py/late")
    assert record.component.load().__name__ == "Late"
    first = manager.fingerprint(record)
    for edit, same in (("# edited\n", True), ("EDITED = 1\n", False)):
        file.write_text(late() + edit)
        again = PluginManager(installed=False)
        again.load_file(file)
        assert (again.fingerprint(again.find("weighter", "late")) == first) == same


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("gone.py", None, "does not exist"),
        ("late.txt", late(), "not a .py file"),
        ("bad.py", "\n\nraise OSError('hm')", "bad.py:3"),
        ("bad.py", late().replace("_components", "_component"), "did you mean"),
        ("bad.py", late() + late().replace("Late", "Other"), 'defines "ptqbench_components" twice'),
    ],
)
def test_a_single_file_plugin_that_cannot_be_loaded(tmp_path, name, source, reason):
    if source is not None:
        (tmp_path / name).write_text(source)
    with pytest.raises(PluginError) as caught:
        PluginManager(installed=False).load_file(tmp_path / name)
    assert reason in caught.value.message
    assert caught.value.exit_code == 3


def test_two_files_of_one_name(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "late.py").write_text(late())
    manager = PluginManager(installed=False)
    manager.load_file(tmp_path / "a" / "late.py")
    with pytest.raises(PluginError, match="two plugin files"):
        manager.load_file(tmp_path / "b" / "late.py")


def test_a_package_fingerprint_covers_its_source_and_nothing_else(alone):
    folder = alone("trial-a", {"a": "trial_a"}, {"trial_a/__init__.py": late(), "trial_a/deep/code.py": "x = 1"})
    first = _fingerprint()
    (folder / "trial_a" / "notes.txt").write_text("no code")
    assert _fingerprint() == first
    (folder / "trial_a" / "deep" / "code.py").write_text("x = 2")
    assert _fingerprint() != first


def test_a_target_of_the_core_adds_nothing_to_what_every_key_names(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text(late('"ptqbench.roles.weighter:SampleWeighter"'))
    manager = PluginManager(installed=False)
    info = manager.load_file(file)
    assert manager.fingerprint(manager.find("weighter", "late")) == info.digest


def test_own_code_that_a_plugin_imports_counts_as_well(alone, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    helper, below = tmp_path / "trial_lab" / "__init__.py", tmp_path / "trial_below.py"
    helper.parent.mkdir()
    helper.write_text("def f():\n    from trial_below import g\n")
    below.write_text("X = 1")
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": "import json, torch\nfrom trial_lab import f\n" + late()})
    file = tmp_path / "late.py"
    file.write_text("import trial_below\n" + late())

    def both() -> tuple[str, str]:
        manager = PluginManager(installed=False)
        manager.load_file(file)
        return _fingerprint(), manager.fingerprint(manager.find("weighter", "late"))

    package, single = both()
    below.write_text("X = 22")
    _forget_imports()
    assert both()[0] != package
    assert both()[1] != single
    package, single = both()
    helper.write_text("def f():\n    from trial_below import g, h\n")
    _forget_imports()
    assert both()[0] != package
    assert both()[1] == single


def test_other_plugins_that_a_plugin_imports_count_as_well(alone):
    folder = alone("trial-a", {"a": "trial_a"}, {"trial_a.py": late(), "trial_b.py": "X = 1"})
    alone("trial-c", {"c": "trial_c"}, {"trial_c.py": "from trial_b import X\n" + late().replace('"late"', '"later"')})
    manager = loaded([])
    first = manager.fingerprint(manager.find("weighter", "later"))
    (folder / "trial_b.py").write_text("X = 22")
    _forget_imports()
    manager = loaded([])
    assert manager.fingerprint(manager.find("weighter", "later")) != first


def _forget_imports() -> None:
    """As a new process would."""
    for name in [name for name in sys.modules if name.startswith("trial_")]:
        del sys.modules[name]


@pytest.mark.parametrize("package", [False, True], ids=["module", "package"])
def test_code_that_changed_since_it_was_imported_is_refused(alone, package):
    """A process that lives on, as a notebook's does, would keep what the old code computes under the new code's keys."""
    name = "trial_a/deep.py" if package else "trial_deep.py"
    first = "from trial_a import deep\n" if package else "import trial_deep\n"
    main = "trial_a/__init__.py" if package else "trial_a.py"
    folder = alone("trial-a", {"a": "trial_a"}, {main: first + late(), name: "X = 1"})
    kept = _fingerprint()
    (folder / name).touch()
    assert _fingerprint() == kept
    (folder / name).write_text("X = 22")
    for _ in range(2):
        with pytest.raises(PluginError, match=r"deep\.py has changed since this process imported it"):
            _fingerprint()
    importlib.reload(sys.modules[name.removesuffix(".py").replace("/", ".")])
    assert _fingerprint() != kept


def test_a_target_that_cannot_be_found_is_said_when_it_is_used(alone):
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": late('"trial_nowhere.code:Late"')})
    with pytest.raises(PluginError, match="trial_nowhere"):
        _fingerprint()


def _fingerprint() -> str:
    manager = loaded([])
    record: Record = manager.find("weighter", "late")
    return manager.fingerprint(record)


def test_a_component_of_another_role_is_told_apart():
    with pytest.raises(UserError, match='"gacq" is a weighter, not a sampler') as caught:
        fake_manager().find("sampler", "gacq")
    assert caught.value.exit_code == 2


def test_components_come_in_the_order_of_roles_and_names():
    names = [(r.role, r.name) for r in fake_manager().components()]
    assert names[:4] == [("sampler", "random"), ("sampler", "stride"), ("weighter", "gacq"), ("weighter", "uniform")]


def test_a_preset_is_found_by_either_name_and_its_table_is_a_copy_as_toml_has_it(alone):
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": preset("TABLE") + "TABLE = {'passes': ('x',), 'weights': {'bits': 4}}"})
    manager = loaded([])
    record = manager.find_preset("short")
    assert record == manager.find_preset("a/short")
    assert (record.role, record.plugin.name) == ("method", "a")
    assert record.preset.table == {"passes": ["x"], "weights": {"bits": 4}}
    sys.modules["trial_a"].TABLE["weights"]["bits"] = 8
    assert record.preset.table["weights"]["bits"] == 4


def test_a_clash_of_presets_names_both_and_qualified_names_settle_it(alone):
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": preset("{}")})
    alone("trial-b", {"b": "trial_b"}, {"trial_b.py": preset("{'weighter': 'late'}")})
    manager = loaded([])
    with pytest.raises(PluginError) as caught:
        manager.find_preset("short")
    assert 'method preset "short" is offered by plugin "a" (from trial-a 1.0) and' in caught.value.message
    assert '"a/short" or "b/short"' in caught.value.hint
    assert manager.find_preset("b/short").preset.table == {"weighter": "late"}
    assert [[other.plugin.name for other in manager.clashes(record)] for record in manager.presets()] == [["b"], ["a"]]


def test_a_missing_preset_suggests_one_and_mentions_what_was_left_out(alone):
    with pytest.raises(UserError) as blameless:
        fake_manager().find_preset("band")
    assert (blameless.value.exit_code, blameless.value.message) == (2, 'there is no method preset called "band"')
    assert 'did you mean "bands"' in blameless.value.hint
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": preset("{}")})
    with pytest.raises(PluginError) as caught:
        loaded([], "a").find_preset("short")
    assert "blocked by PTQBENCH_BLOCK: a" in caught.value.hint


def test_a_component_is_no_preset_and_a_preset_no_component():
    with pytest.raises(UserError, match='"gacq" is a weighter, not a method preset'):
        fake_manager().find_preset("gacq")
    with pytest.raises(UserError, match='"bands" is a method preset, not a weighter'):
        fake_manager().find("weighter", "bands")


def test_presets_are_listed_last_in_the_order_of_names(alone):
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": late().replace("return [", "return [Preset('short', '', {}), ")})
    alone("trial-b", {"b": "trial_b"}, {"trial_b.py": preset("{}").replace('"short"', '"brief"')})
    manager = loaded([])
    assert [(r.role, r.name) for r in manager.offers()] == [("weighter", "late"), ("method", "brief"), ("method", "short")]
    assert manager.offers("method") == manager.presets()
    assert [r.name for r in manager.offers("weighter")] == ["late"]


def test_commands_of_plugins(alone):
    hook = "import click\nfrom ptqbench import hookimpl\n@hookimpl\ndef ptqbench_commands():\n    return [{}]\n"
    alone("trial-a", {"a": "trial_a"}, {"trial_a.py": hook.format("click.Command('extra')")})
    alone("trial-b", {"b": "trial_b"}, {"trial_b.py": hook.format("1 / 0")})
    alone("trial-c", {"c": "trial_c"}, {"trial_c.py": hook.format("'text'")})
    warnings: list[str] = []
    manager = loaded(warnings)
    assert list(manager.commands()) == ["extra"]
    assert len(warnings) == 2
    assert "ZeroDivisionError" in warnings[0]


FILE = """
paper = "arXiv:1"

[short]
summary = "in short"
released = ["has {four}"]
table = {{ weighter = "late", passes = ["x"] }}

[long]
extends = "short"
summary = "at length"
paper = "arXiv:2"
table.weights.bits = 4
"""


def test_presets_of_a_package_are_a_file_and_need_no_hook(alone):
    alone("trial-a", {"a": "trial_a"}, {"trial_a/__init__.py": "", "trial_a/presets.toml": FILE.format(four=4)})
    warnings: list[str] = []
    long, short = (record.preset for record in loaded(warnings).presets())
    assert warnings == []
    assert (short.paper, short.released, short.table) == ("arXiv:1", ("has 4",), {"weighter": "late", "passes": ["x"]})
    assert (long.paper, long.extends, long.table) == ("arXiv:2", "short", {"weights": {"bits": 4}})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[short", "presets.toml cannot be read: "),
        ('short = "in short"', '"short" is no table: write [short]'),
        ('[short]\nsumary = "x"', 'unknown key "sumary" of "short"; did you mean "summary"?'),
        ('[short]\nsummary = "x"', '"short" has no table'),
        ("[short]\ntable = {}", '"short" has no summary'),
        ('[short]\nsummary = "x"\ntable = {}\nreleased = "y"', '`released` of "short" is no tuple of strings'),
        ('[short]\nsummary = "x"\ntable = { method = "y" }', "has the key method"),
        ('[short]\nsummary = "x"\ntable = { weights = { bits = 2020-01-01 } }', "a recipe can say strings"),
        ('[Short]\nsummary = "x"\ntable = {}', "'Short' is no preset name"),
    ],
)
def test_a_file_of_presets_that_is_wrong_is_told_with_its_name(alone, text, reason):
    alone("trial-bad", {"bad": "trial_bad"}, {"trial_bad/__init__.py": late(), "trial_bad/presets.toml": text})
    warnings: list[str] = []
    assert loaded(warnings).offers() == ()
    (warning,) = warnings
    assert reason in warning
    assert "presets.toml" in warning
