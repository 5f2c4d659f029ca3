"""Methods that start from a preset: what they become, and where their problems are said."""

from __future__ import annotations

import copy

import pytest
from fakes import PRESET, fake_manager, recipe

from ptqbench import hookimpl
from ptqbench.errors import EXIT_PLUGIN, UserError
from ptqbench.plugin.component import Preset
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.sources import PluginInfo
from ptqbench.recipe.experiment import Method
from ptqbench.recipe.load import load_experiment


def with_methods(**tables: dict) -> dict:
    raw = recipe()
    raw["methods"] = tables
    raw["recipe"]["baseline"] = next(iter(tables))
    return raw


def load(raw: dict, *overrides: str, manager: PluginManager | None = None) -> dict[str, Method]:
    cells = load_experiment(raw, overrides=overrides, manager=manager or fake_manager()).cells
    return {cell.name: cell.method for cell in cells if cell.method is not None}


def refused(raw: dict, *overrides: str, manager: PluginManager | None = None) -> list[tuple[str, str]]:
    with pytest.raises(UserError) as caught:
        load(raw, *overrides, manager=manager)
    return [(problem.place, problem.message) for problem in caught.value.problems]


def offering(*presets: Preset) -> PluginManager:
    """The fakes, and a plugin "more" with these presets."""

    class More:
        @staticmethod
        @hookimpl
        def ptqbench_components():
            return list(presets)

    manager = fake_manager()
    manager.register(More(), PluginInfo("more", "moredist", "2.0", "more"))
    return manager


def test_a_preset_is_its_table():
    written = copy.deepcopy(PRESET)
    written["passes"] = list(PRESET["passes"])
    found = load(with_methods(short={"method": "bands"}, long=written))
    assert found["short"].key == found["long"].key
    assert (found["short"].preset, found["long"].preset) == ("bands", "")
    assert found["short"].activations.steps == 10
    assert [bound.name for bound in found["short"].hooks] == ["ptqd"]


def test_a_method_overrides_key_by_key_as_with_extends():
    own = {
        "sampler": {"points": 6},
        "reconstruction": "brecq",
        "losses": ["output"],
        "weights": {"range": "mse"},
        "activations": {"steps": 2},
        "weighter": {"use": "gacq", "groups": 3},
    }
    raw = with_methods(mine={"method": "bands", **own})
    found = load(raw)["mine"]
    assert found.sampler.options.model_dump() == {"points": 6}
    assert found.reconstruction.options.model_dump()["iterations"] == 100
    assert [bound.name for bound in found.losses] == ["output"]
    assert (found.weights.quantizer.name, found.weights.range.name) == ("adaround", "mse")
    assert (found.activations.quantizer.name, found.activations.steps) == ("lsq", 2)
    assert found.weighter.options.model_dump()["groups"] == 3
    extended = with_methods(root={**copy.deepcopy(PRESET), "passes": ["ends"]}, mine={"extends": "root", **own})
    assert load(extended)["mine"].key == found.key


def test_a_chain_of_extends_may_start_from_a_preset():
    raw = with_methods(root={"method": "bands"}, middle={"extends": "root", "hooks": []}, leaf={"extends": "middle"})
    found = load(raw)
    assert {name: method.preset for name, method in found.items()} == dict.fromkeys(("root", "middle", "leaf"), "bands")
    assert (len(found["root"].hooks), found["leaf"].hooks) == (1, ())
    assert found["leaf"].key == found["middle"].key


def test_loading_leaves_the_preset_alone():
    manager = fake_manager()
    before = copy.deepcopy(manager.find_preset("bands").preset.table)
    raw = with_methods(mine={"method": "bands", "weights": {"bits": 4}, "losses": ["output"]})
    load(raw, 'sweep."methods.*.sampler.points"=[1, 2]', manager=manager)
    assert manager.find_preset("bands").preset.table == before


def test_axes_and_overrides_reach_into_a_preset():
    raw = with_methods(mine={"method": "bands"}, other={})
    overrides = ('sweep."methods.*.sampler.points"=[1, 2]', "methods.mine.reconstruction.iterations=5")
    cells = load_experiment(raw, overrides=overrides, manager=fake_manager()).cells
    assert [(cell.name, cell.variant) for cell in cells] == [
        ("full-precision", ""),
        ("mine", "points=1"),
        ("mine", "points=2"),
        ("other", ""),
    ]
    assert {cell.method.reconstruction.options.model_dump()["iterations"] for cell in cells[1:3]} == {5}


def test_a_name_that_two_plugins_offer_needs_the_plugin():
    manager = offering(Preset("bands", "another", {}))
    ((place, message),) = refused(with_methods(mine={"method": "bands"}), manager=manager)
    assert place == "methods.mine.method"
    assert 'plugin "fakes" (from fakedist 1.2) and plugin "more" (from moredist 2.0)' in message
    found = load(with_methods(mine={"method": "more/bands"}), manager=manager)["mine"]
    assert (found.preset, found.reconstruction.name) == ("bands", "none")


BROKEN = {
    "an unknown component": ({"weighter": "gaqc"}, "weighter: there is no weighter"),
    "an unknown component of a list": ({"passes": ["ends", "end"]}, "passes[1]: there is no plan pass"),
    "an unknown key": ({"wieghter": "gacq"}, "wieghter: unknown key"),
    "a wrong option": ({"sampler": {"use": "stride", "points": 0}}, "sampler.points: must be at least 1"),
    "a wrong type": ({"weights": 3}, "weights: must be a table"),
    "a contradiction": ({"weighter": "gacq"}, 'weighter: "gacq" is a learned sample weighter'),
    "nothing to fit": ({"reconstruction": "brecq", "weights": {"quantizer": "nearest"}}, "weights.quantizer: "),
}


@pytest.mark.parametrize(("table", "said"), BROKEN.values(), ids=BROKEN)
def test_a_problem_in_a_preset_is_said_once_where_the_preset_is_named(table, said):
    raw = with_methods(root={"method": "odd"}, leaf={"extends": "root"})
    ((place, message),) = refused(raw, manager=offering(Preset("odd", "", table)))
    assert place == "methods.root.method"
    assert f'in the preset "odd", {said}' in message


def test_an_option_that_the_preset_s_component_lacks_is_the_preset_s_problem():
    needy = Preset("odd", "", {"weighter": "gaqc"})
    raw = with_methods(mine={"method": "odd", "weighter": {"groups": 3}})
    ((place, message),) = refused(raw, manager=offering(needy))
    assert (place, message.partition(":")[0]) == ("methods.mine.method", 'in the preset "odd", weighter')


@pytest.mark.parametrize(
    ("own", "place"),
    [
        ({"weighter": "gaqc"}, "methods.mine.weighter"),
        ({"sampler": {"points": 0}}, "methods.mine.sampler.points"),
        ({"losses": ["output", "har"]}, "methods.mine.losses[1]"),
        ({"weights": {"quantizer": "neerest"}}, "methods.mine.weights.quantizer"),
        ({"activations": {"steps": 11}}, "methods.mine.activations.steps"),
        ({"weights": 3}, "methods.mine.weights"),
    ],
)
def test_a_problem_with_what_the_method_says_itself_stays_there(own, place):
    found = refused(with_methods(mine={"method": "bands", **own}))
    assert [where for where, _ in found] == [place]
    assert "preset" not in found[0][1]


def test_a_child_that_contradicts_the_preset_is_the_one_to_mend():
    raw = with_methods(root={"method": "bands"}, leaf={"extends": "root", "reconstruction": "none"})
    found = refused(raw)
    assert {place for place, _ in found} == {"methods.leaf.extends"}
    assert {message.partition(":")[0] for _, message in found} == {
        f'in the preset "bands", {key}' for key in ("weights.quantizer", "activations.quantizer", "losses[0]", "losses[1]")
    }


def test_a_missing_preset_is_one_problem_however_many_start_from_it():
    raw = with_methods(
        root={"method": "bnads", "weights": {"quantizer": "adaround"}},
        leaf={"extends": "root", "sampler": {"points": 3}},
        other={},
    )
    overrides = ('sweep."methods.leaf.sampler.points"=[1]', 'sweep."methods.*.sampler.points"=[2]', 'sweep.only=["leaf/W4A8"]')
    found = refused(raw, overrides[0], overrides[2])
    assert [place for place, _ in found] == ["methods.root.method"]
    assert [place for place, _ in refused(raw, overrides[1])] == ["methods.root.method"]


def test_a_preset_of_a_plugin_that_was_left_out_exits_as_a_plugin_error():
    manager = fake_manager()
    manager.blocked.append(PluginInfo("tfmq", "somewhere", "", "tfmq"))
    with pytest.raises(UserError) as caught:
        load(with_methods(mine={"method": "tfmq-dm"}), manager=manager)
    assert caught.value.exit_code == EXIT_PLUGIN
    assert "blocked by PTQBENCH_BLOCK: tfmq" in caught.value.hint
    assert [problem.place for problem in caught.value.problems] == ["methods.mine.method"]


def test_a_component_of_a_plugin_that_was_left_out_is_said_with_the_preset():
    manager = offering(Preset("odd", "", {"weighter": "meta"}))
    manager.blocked.append(PluginInfo("meta", "somewhere", "", "meta"))
    with pytest.raises(UserError) as caught:
        load(with_methods(mine={"method": "odd"}), manager=manager)
    assert caught.value.exit_code == EXIT_PLUGIN
    (problem,) = caught.value.problems
    assert problem.place == "methods.mine.method"
    assert 'in the preset "odd", weighter: no weighter called "meta" in the plugins that loaded' in problem.message


def test_where_a_preset_comes_from_does_not_count():
    raw = with_methods(a={"method": "fakes/bands"}, b={"method": "more/bands"})
    found = load(raw, manager=offering(Preset("bands", "the same under another roof", PRESET)))
    assert found["a"].key == found["b"].key


def test_a_preset_extends_another_with_the_rules_of_methods():
    heir = Preset("heir", "", {"sampler": {"points": 6}, "weights": {"range": "mse"}, "passes": []}, extends="bands")
    manager = offering(heir, Preset("late", "", {}, extends="more/heir"))
    found = load(with_methods(mine={"method": "late"}), manager=manager)["mine"]
    assert (found.preset, found.sampler.options.model_dump()) == ("late", {"points": 6})
    assert found.reconstruction.options.model_dump()["iterations"] == 9
    assert (found.weights.quantizer.name, found.weights.range.name) == ("adaround", "mse")
    assert (found.activations.steps, found.passes) == (10, ())


@pytest.mark.parametrize(
    ("presets", "said"),
    [
        ([Preset("a", "", {}, extends="bnads")], 'of plugin "more" extends "bnads": there is no method preset called "bnads"'),
        ([Preset("a", "", {}, extends="b"), Preset("b", "", {}, extends="a")], 'extends "a", which goes round in a circle'),
        ([Preset("a", "", {}, extends="a")], 'extends "a", which goes round in a circle'),
        ([Preset("a", "", {}, extends="gacq")], '"gacq" is a weighter, not a method preset'),
    ],
)
def test_a_base_that_is_not_there_is_the_plugin_s_problem(presets, said):
    with pytest.raises(UserError, match=said) as caught:
        load(with_methods(mine={"method": "a"}), manager=offering(*presets))
    assert [problem.place for problem in caught.value.problems] == ["methods.mine.method"]
    assert caught.value.exit_code == EXIT_PLUGIN
