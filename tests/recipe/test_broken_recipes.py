"""Broken recipes: each is refused with the place, what is wrong, and the remedy."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from fakes import fake_manager, recipe

from ptqbench.errors import UserError
from ptqbench.recipe import keypath
from ptqbench.recipe.load import load_experiment
from ptqbench.recipe.problems import RecipeError

# One line each: an override, the place that the message must name, and words of the reason or the remedy.
BROKEN = [
    ("samplng.steps=3", "samplng", "unknown section", 'did you mean "sampling"'),
    ("profile.small.sampling.steps=3", "profile", "unknown section", 'did you mean "profiles"'),
    ("sampling.stepz=3", "sampling.stepz", "unknown key", 'did you mean "steps"'),
    ('sampling.steps="ten"', "sampling.steps", 'must be a whole number, not "ten"', "1 to 1000"),
    ("sampling.steps=10.0", "sampling.steps", "must be a whole number, not 10.0", "number of sampling steps"),
    ("sampling.steps=0", "sampling.steps", "must be at least 1, not 0", "1 to 1000"),
    (
        "sampling.grid=quod",
        "sampling.grid",
        'must be "uniform", "quad", "leading", "trailing" or "linspace"',
        'did you mean "quad"',
    ),
    ("sampling.eta=nan", "sampling.eta", "must be a finite number", "DDIM"),
    ("sampling.images=1", "sampling.images", "must be at least 2", "images per cell"),
    ("sampling.images=true", "sampling.images", "must be a whole number, not true", "images"),
    ("sampling.seed=-1", "sampling.seed", "must be at least 0", "seed"),
    ("sampling=3", "sampling", "must be a table", ""),
    ("calibration.samples=81", "calibration.samples", "do not fit into 8 trajectories of 10 steps", "at most 80"),
    ("evaluation.probes=17", "evaluation.probes", "only 16 images", "at most 16"),
    ("evaluation.metrics=[]", "evaluation.metrics", "must have at least 1 item", "at least one"),
    ('evaluation.metrics=["fd", "fd"]', "evaluation.metrics[1]", '"fd" is named twice', "leave one out"),
    ("evaluation.metrics=[1]", "evaluation.metrics[0]", "must be a component's name or a table", ""),
    ("evaluation.metrics=fd", "evaluation.metrics", "must be an array", "at least one"),
    ("evaluation.features=digitz", "evaluation.features", "there is no feature extractor", 'did you mean "digits"'),
    ("recipe.name=Big Name", "recipe.name", "is no name", "lower-case letters"),
    ("recipe.baseline=plane", "recipe.baseline", 'there is no method "plane"', 'did you mean "plain"'),
    ("model.use=digit", "model", 'there is no model source called "digit"', 'did you mean "digits"'),
    ("model.foldr=x", "model.foldr", 'unknown option of the model source "digits"', 'did you mean "folder"'),
    ("methods.gacq.weighter=gaqc", "methods.gacq.weighter", 'no weighter called "gaqc"', 'did you mean "gacq"'),
    ("methods.gacq.sampler=gacq", "methods.gacq.sampler", '"gacq" is a weighter, not a sampler', "random, stride"),
    ("methods.gacq.weighter.temperatur=1", "methods.gacq.weighter.temperatur", "unknown option", '"temperature"'),
    ("methods.gacq.weighter.temperature=0", "methods.gacq.weighter.temperature", "must be greater than 0", "softmax"),
    ("methods.gacq.weighter.groups=2.5", "methods.gacq.weighter.groups", "must be a whole number, not 2.5", "groups"),
    ("methods.gacq.weighter.mode=papr", "methods.gacq.weighter.mode", '"paper" or "released"', 'did you mean "paper"'),
    ("methods.plain.reconstruction.warmup=x", "methods.plain.reconstruction.warmup", 'or must be "auto"', "penalty"),
    ("methods.plain.sampler.points=1000", "methods.plain.sampler.points", "must be at most 100", "steps"),
    ("methods.gacq.wieghter=gacq", "methods.gacq.wieghter", "unknown key", 'did you mean "weighter"'),
    ("methods.gacq.weights.bits=9", "methods.gacq.weights.bits", "not 9", "2 to 8, or 32"),
    ("methods.gacq.weights.bits=16", "methods.gacq.weights.bits", "not 16", "2 to 8, or 32"),
    ("methods.gacq.weights.per=row", "methods.gacq.weights.per", 'must be "tensor" or "channel"', "one scale"),
    ("methods.gacq.weights.symmetric=1", "methods.gacq.weights.symmetric", "must be true or false, not 1", ""),
    ("methods.gacq.weights.steps=2", "methods.gacq.weights.steps", "unknown key", "symmetric"),
    ("methods.gacq.activations.steps=11", "methods.gacq.activations.steps", "only 10 sampling steps", "at most 10"),
    ("methods.gacq.activations=8", "methods.gacq.activations", "must be a table, not 8", ""),
    ("methods.gacq.sampler=7", "methods.gacq.sampler", "must be a component's name or a table", "use"),
    ('methods.gacq.passes=["ends", "end"]', "methods.gacq.passes[1]", "no plan pass", 'did you mean "ends"'),
    ("methods.gacq.activations.steps=all", "methods.gacq.activations.steps", 'or must be "each", not "all"', "1 to 1000"),
    ("methods.gacq.losses=haar", "methods.gacq.losses", "must be an array", "at least one"),
    ("methods.gacq.losses=[]", "methods.gacq.losses", "must have at least 1 item", "at least one"),
    ('methods.gacq.losses=["output", "har"]', "methods.gacq.losses[1]", "there is no loss term", 'did you mean "haar"'),
    ('methods.gacq.losses=["haar", {use="haar", levels=3}]', "methods.gacq.losses[1]", '"haar" is named twice', "leave"),
    ('methods.gacq.losses=[{use="haar", levels=0}]', "methods.gacq.losses[0].levels", "must be at least 1", "transform"),
    ('methods.rtn.losses=["haar"]', "methods.rtn.losses[0]", '"none" optimises nothing', 'losses = ["output"]'),
    ('methods.rtn.losses=["output", "haar"]', "methods.rtn.losses[1]", '"none" optimises nothing', "that fits"),
    ("methods.gacq.hooks=ptqd", "methods.gacq.hooks", "must be an array", "corrections while sampling"),
    ('methods.gacq.hooks=["ptqt"]', "methods.gacq.hooks[0]", "there is no sampler hook", 'did you mean "ptqd"'),
    ('methods.gacq.hooks=["ptqd", "ptqd"]', "methods.gacq.hooks[1]", '"ptqd" is named twice', "leave one out"),
    ("methods.gacq.method=bands", "methods.gacq.method", "stands beside extends", "keep one of the two"),
    ("methods.rtn.method=band", "methods.rtn.method", 'no method preset called "band"', 'did you mean "bands"'),
    ("methods.rtn.method=plain", "methods.rtn.method", 'no method preset called "plain"', 'write extends = "plain"'),
    ("methods.rtn.method=gacq", "methods.rtn.method", '"gacq" is a weighter, not a method preset', 'extends = "gacq"'),
    ("methods.rtn.method=stride", "methods.rtn.method", '"stride" is a sampler, not a method preset', "known: bands"),
    ("methods.rtn.method=3", "methods.rtn.method", "must be a string, not 3", "the preset to start from"),
    ("methods.rtn.extends=bands", "methods.rtn.extends", 'there is no method "bands"', 'write method = "bands"'),
    ("methods.gacq.weighter=bands", "methods.gacq.weighter", '"bands" is a method preset, not a weighter', "uniform"),
    ('sweep."methods.rtn.method"=["bands"]', 'sweep."methods.rtn.method"', "cannot vary", "write two methods"),
    ('sweep."methods.*.losses"=[["har"]]', 'sweep."methods.*.losses"', 'with ["har"]: there is no loss', "haar"),
    ('sweep."methods.*.hooks"=["ptqd"]', 'sweep."methods.*.hooks"', 'with "ptqd": must be an array', "in order"),
    ("methods.gacq.extends=plan", "methods.gacq.extends", 'there is no method "plan"', 'did you mean "plain"'),
    ("methods.plain.extends=gacq", "methods.plain.extends", "plain -> gacq -> plain", "stand alone"),
    ("methods.gacq.extends=gacq", "methods.gacq.extends", "goes round in a circle", "stand alone"),
    ("methods.GACQ={}", "methods.GACQ", 'differs from "gacq" in upper and lower case only', "rename"),
    ("methods.full-precision={}", "methods.full-precision", "is reserved", "another name"),
    ('methods."a b"={}', 'methods."a b"', "cannot be a method's name", "lower-case letters"),
    ("methods.x=3", "methods.x", "must be a table", "[methods.NAME]"),
    ("methods={}", "methods", "there is no method", "[methods.NAME]"),
    ("methods.rtn.weighter=gacq", "methods.rtn.weighter", "nothing would ever be learned", "not learned"),
    ("methods.rtn.weights.quantizer=adaround", "methods.rtn.weights.quantizer", "optimises nothing", "that fits"),
    ("methods.rtn.activations.quantizer=lsq", "methods.rtn.activations.quantizer", "optimises nothing", "that fits"),
    ("methods.plain.weights.quantizer=nearest", "methods.plain.weights.quantizer", "nothing to fit", '"none"'),
    ("sweep.bits=[]", "sweep.bits", "must have at least 1 item", "W4A8"),
    ('sweep.bits=["4/8"]', "sweep.bits[0]", 'must be a label such as "W4A8", not "4/8"', ""),
    ('sweep.bits=["W1A8"]', "sweep.bits[0]", "weights cannot have 1 bits", "2 to 8"),
    ('sweep.bits=["W4A9"]', "sweep.bits[0]", "activations cannot have 9 bits", "16, or 32"),
    ('sweep.bits=["W32A32"]', "sweep.bits", "full-precision row", "leave it out"),
    ('sweep.bits=["W4A8", "W4A8"]', "sweep.bits", "W4A8 stands there twice", "leave one out"),
    ("sweep.seeds=[0, 0]", "sweep.seeds", "0 stands there twice", "leave one out"),
    ("sweep.sedes=[0]", "sweep.sedes", "unknown key", 'did you mean "seeds"'),
    ("sweep.methods.gacq.x=[0]", "sweep.methods", "must be quoted", '"methods.*.weights.bits" = [4, 8]'),
    ('sweep."methods.gaq.weights.per"=["tensor"]', 'sweep."methods.gaq.weights.per"', "no", 'did you mean "gacq"'),
    ('sweep."methods.*.weighter.temp"=[1]', 'sweep."methods.*.weighter.temp"', "matches no method", "temperature"),
    ('sweep."methods.gacq.weighter.temp"=[1]', 'sweep."methods.gacq.weighter.temp"', "unknown option", "temperature"),
    ('sweep."methods.*.weighter.groups"=[1, 0]', 'sweep."methods.*.weighter.groups"', "with 0: must be at least 1", ""),
    ('sweep."methods.*.weighter.groups"=3', 'sweep."methods.*.weighter.groups"', "must be an array", "[..., ...]"),
    ('sweep."methods.*.weighter.groups"=[3, 3]', 'sweep."methods.*.weighter.groups"', "a value twice", "leave one out"),
    ('sweep."methods.*.weights.bits"=[4]', 'sweep."methods.*.weights.bits"', "sweep.bits, which sets the same", "one"),
    ('sweep."sampling.steps"=[5, 10]', 'sweep."sampling.steps"', "unknown key", "below one method or all"),
    ("sweep.seeds=" + str(list(range(6000))), "sweep", "makes 18001 cells", "at most 10000"),
    ("report.formats=[\"markdwn\"]", "report.formats[0]", "no reporter", 'did you mean "markdown"'),
    ("report.format=[]", "report.format", "unknown key", 'did you mean "formats"'),
    ("published={}", "published", "must be an array of tables", "[[published]]"),
    ('published=[{title="t", source="s", rows=[{method="m", bits="W4A8", FID="4"}]}]', "published[0].rows[0].FID",
     'must be a number, not "4"', ""),
    ('published=[{title="t", source="s", rows=[{method="m", bits="W4A8"}]}]', "published[0].rows[0]", "no number",
     "FID"),
    ('published=[{title="t", rows=[]}]', "published[0].source", "is missing", "where they were published"),
    ("methods.gaqc.weighter=gacq", "--set methods.gaqc.weighter=gacq", 'no method "gaqc"', 'did you mean "gacq"'),
    ("methods.*.weights.bits=8", "--set methods.*.weights.bits=8", 'no method "*"', "methods: gacq, plain, rtn"),
    ("sampling.steps.x=1", "--set sampling.steps.x=1", "sampling.steps is not a table", "--set key.path=value"),
    ("sampling", "--set sampling", "there is no =", "--set key.path=value"),
    ("sweep.bits=[1,", "--set sweep.bits=[1,", "not a TOML value", "--set key.path=value"),
    ("recipe.title=2026-11-30", "recipe.title", "no key takes a date", "strings (in quotes)"),
    ("recipe.title=Gr\udcf6sse", "recipe.title", "is no Unicode text", "UTF-8"),
    ("a..b=1", "--set a..b=1", "not a key path", "--set key.path=value"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "place", "reason", "remedy"), BROKEN, ids=[item[0][:60] for item in BROKEN])
def test_a_broken_recipe_names_the_place_and_the_remedy(override, place, reason, remedy):
    error = refused(recipe(), override)
    assert isinstance(error, RecipeError)
    assert error.exit_code == 2
    found = [p for p in error.problems if p.place.strip('"') == place.strip('"') or p.place == place]
    assert found, str(error)
    said = " ".join(f"{p.message} {p.hint}" for p in found)
    assert reason in said
    assert remedy in said
    text = str(error)
    for alien in ("Traceback", "pydantic", "extra_forbidden", "Input should", "BaseModel"):
        assert alien not in text


@pytest.mark.parametrize("section", ["recipe", "model", "sampling", "calibration", "evaluation", "methods"])
def test_a_missing_section(section):
    raw = recipe()
    del raw[section]
    assert section in {p.place.partition(".")[0] for p in refused(raw).problems}


@pytest.mark.parametrize("key", ["recipe.name", "recipe.baseline", "model.use", "sampling.steps", "sampling.images",
                                 "calibration.samples", "evaluation.metrics"])  # fmt: skip
def test_a_missing_key(key):
    raw = recipe()
    section, _, name = key.partition(".")
    del raw[section][name]
    problems = refused(raw).problems
    assert [(p.place, p.message) for p in problems] == [(key, "is missing")]
    assert problems[0].hint


def test_all_problems_come_in_one_pass():
    error = refused(
        recipe(),
        "sampling.stepz=1",
        "sampling.images=0",
        "model.use=nothing",
        "methods.gacq.weighter.temperatur=2",
        "methods.rtn.weighter=gacq",
        "sweep.seeds=[0, 0]",
        "published=3",
        "recipe.baseline=nobody",
    )
    places = [p.place for p in error.problems]
    assert sorted(places) == sorted([
        "sampling.stepz", "sampling.images", "model", "methods.rtn.weighter", "methods.gacq.weighter.temperatur",
        "sweep.seeds", "published", "recipe.baseline",
    ])  # fmt: skip
    assert "8 problems" in error.message
    assert "\n  8. recipe.baseline: " in error.message


PLANTED = {
    "samplng.steps=3": "samplng",
    "recipe.name=Big Name": "recipe.name",
    "recipe.baseline=nobody": "recipe.baseline",
    "model.foldr=x": "model.foldr",
    "sampling.stepz=3": "sampling.stepz",
    "sampling.eta=nan": "sampling.eta",
    "sampling.solver=ddmi": "sampling.solver",
    "calibration.samples=81": "calibration.samples",
    "calibration.btach=8": "calibration.btach",
    "evaluation.probes=17": "evaluation.probes",
    'evaluation.metrics=["fd", "kdi"]': "evaluation.metrics[1]",
    "evaluation.features=digitz": "evaluation.features",
    "defaults.wieghter=gacq": "defaults.wieghter",
    # A method without anything wrong beside it, one that starts from nothing, and one that a slip in it leaves unbuilt.
    "methods.rtn.weighter=gacq": "methods.rtn.weighter",
    'methods.lost={method="bandz", weighter="gaqc", activations={steps=11}, bitz=3}': "methods.lost.method",
    "methods.lost.weighter=gaqc": "methods.lost.weighter",
    "methods.lost.bitz=3": "methods.lost.bitz",
    "methods.lost.activations.steps=11": "methods.lost.activations.steps",
    "methods.plain.sampler.pionts=3": "methods.plain.sampler.pionts",
    "methods.plain.weights.quantizer=nearest": "methods.plain.weights.quantizer",
    "methods.gacq.weighter.temperatur=2": "methods.gacq.weighter.temperatur",
    "methods.gacq.activations.steps=12": "methods.gacq.activations.steps",
    'methods.gacq.hooks=["ptqt"]': "methods.gacq.hooks[0]",
    "sweep.bits=[]": "sweep.bits",
    "sweep.seeds=[0, 0]": "sweep.seeds",
    'sweep."methods.*.weights.bist"=[3]': 'sweep."methods.*.weights.bist"',
    'sweep."methods.gaq.weights.per"=["tensor"]': 'sweep."methods.gaq.weights.per"',
    'sweep.only=["plane/W4A8"]': "sweep.only",
    'report.formats=["markdwn"]': "report.formats[0]",
    'published=[{title="t", rows=[{method="m", bits="W4A8"}]}]': "published[0].source",
    "sampling": "--set sampling",
}
"""Mistakes that have nothing to do with each other, in every table, and where each is told."""


def test_mistakes_in_every_table_are_told_at_once() -> None:
    error = refused(recipe(), *PLANTED)
    found = {p.place.strip('"') for p in error.problems}
    assert not (missed := {place.strip('"') for place in PLANTED.values()} - found), missed
    assert len(error.problems) == len(PLANTED) + 1, "nothing that only follows from another; the row has no number either"


ALONE = [
    (override, place)
    for override, place, *_ in BROKEN
    if not override.startswith(("methods={}", "model.use=", "sampling=3", "sampling.steps=", "sampling.images="))
    and not any(part in override for part in (".extends=", ".method=", '"methods.*.', '"methods.gacq.weighter', "W32A32"))
]
"""Mistakes that no other is part of: not those that take a limit, a component or a start from what another is about."""


def _key(override: str) -> tuple[str, ...]:
    try:
        return keypath.parse(override.partition("=")[0])
    except ValueError:
        return (override,)


@pytest.mark.parametrize("seed", range(12))
def test_no_mistake_hides_another(seed: int) -> None:
    """Draws of many mistakes with different keys: each is told where it is told alone."""
    chosen: list[tuple[str, str]] = []
    for override, place in random.Random(seed).sample(ALONE, len(ALONE)):
        key = _key(override)
        if all(key[: len(other)] != other[: len(key)] for other in (_key(o) for o, _ in chosen)):
            chosen.append((override, place))
    assert len(chosen) > 20
    found = {p.place.strip('"') for p in refused(recipe(), *(override for override, _ in chosen)).problems}
    assert not (missed := {place.strip('"') for _, place in chosen} - found), missed


def test_a_value_of_python_that_no_recipe_holds_is_told_before_it_would_break_the_record() -> None:
    data = recipe()
    data["recipe"]["plugins"] = [Path("mine.py")]
    data["sampling"]["steps"] = np.int64(10)
    error = refused(data)
    for place, kind in (("recipe.plugins[0]", type(Path()).__name__), ("sampling.steps", "int64")):
        assert f"{place}: no key takes a {kind}" in str(error)


def test_tuples_are_arrays() -> None:
    data = recipe()
    given = json.dumps(load_experiment(data, manager=fake_manager()).raw)
    data["evaluation"]["metrics"] = tuple(data["evaluation"]["metrics"])
    assert json.dumps(load_experiment(data, manager=fake_manager()).raw) == given


def test_an_inherited_problem_is_said_once_where_it_is_written():
    error = refused(recipe(), "methods.plain.sampler.pionts=3")
    assert [p.place for p in error.problems] == ["methods.plain.sampler.pionts"]
    both = refused(recipe(), "methods.plain.sampler=strid", "methods.gacq.sampler=strid")
    assert [p.place for p in both.problems] == ["methods.plain.sampler", "methods.gacq.sampler"]


def test_weights_at_full_bits_leave_a_fit_without_anything_to_learn():
    error = refused(recipe(), "methods.plain.activations.quantizer=affine", 'sweep.bits=["W32A8"]')
    assert "nothing to fit" in str(error)


def refused(raw: dict, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_experiment(raw, overrides=overrides, manager=fake_manager())
    return caught.value


WRONG = [3, -1, 1.5, True, "text", "", [], [1], ["x"], {}, {"use": 3}, {"use": "none"}, {"a": {"b": []}}, [[]], [{}]]


def places(table: dict, prefix: tuple = ()) -> list[tuple]:
    found = []
    for key, value in table.items():
        found.append((*prefix, key))
        if isinstance(value, dict):
            found += places(value, (*prefix, key))
    return found


@pytest.mark.parametrize("path", places(recipe()), ids=".".join)
def test_no_value_of_a_wrong_shape_gets_past_the_checks_or_breaks_them(path):
    for wrong in WRONG:
        raw = recipe()
        table = raw
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] = wrong
        try:
            load_experiment(raw, manager=fake_manager())
        except UserError as error:
            assert error.exit_code == 2
