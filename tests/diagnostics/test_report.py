"""Pictures that show something, and the page that names them."""

import json
import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from ptqbench.diagnostics.observer import GradientObserver
from ptqbench.diagnostics.pictures import gradients, weights
from ptqbench.diagnostics.pictures.style import COLOURS, MARKERS, line_style, log_if_wide, panels
from ptqbench.diagnostics.report import write
from ptqbench.diagnostics.tables import alignment_table, tables

TOPICS = ("cosine", "progress", "loss", "weights", "agreement", "effective-size", "meta")
ALL = {f"{topic}-{phase}.png" for topic in TOPICS for phase in ("rounding", "steps")} | {"timesteps-eps-error.png", "cost.png"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, observed, summarized):
    out = tmp_path_factory.mktemp("report") / "out"
    failed = {"failed": {"ptq4dm/W4A8/seed0": "a reason\n  a remedy"}, "unfitted": ["nearest/W4A8/seed0"]}
    write(summarized(observed(), **failed), GradientObserver(), out)
    return out


@pytest.fixture
def coarse(monkeypatch):
    """Where nobody looks at the pictures."""
    monkeypatch.setattr("ptqbench.diagnostics.pictures.style.DPI", 20)


def test_one_picture_a_topic_and_each_shows_something(folder):
    assert {path.name for path in folder.glob("*.png")} == ALL
    for path in folder.glob("*.png"):
        picture = Image.open(path).convert("RGB")
        assert min(picture.size) >= 200 and max(picture.size) >= 700
        pixels = picture.width * picture.height
        colours = {colour: count for count, colour in picture.getcolors(pixels)}
        assert 0.05 < colours[255, 255, 255] / pixels < 0.99, path.name
        assert len(colours) > 20


def test_the_page_names_every_picture_and_table(folder):
    page = (folder / "diagnostics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)) == ALL
    titles = ["Fit quality", "Gradient alignment of timestep groups", "Loss by timestep group, relative to uniform weights"]
    assert re.findall(r"^## (.+)$", page, re.M) == [*titles, "Learned weights", "Cost of the weighter", "Failed cells"]
    assert "* ptq4dm/W4A8/seed0: a reason a remedy" in page
    assert "Nothing is fitted in: nearest/W4A8/seed0." in page
    for line in (line for line in page.splitlines() if line.startswith("|")):
        assert line.endswith("|")


def test_the_data_files(folder):
    assert json.loads((folder / "diagnostics.json").read_text())["name"] == "toy"
    unit = json.loads((folder / "units.json").read_text())["rows"][0]["units"][0]
    assert unit["unit"] == "first" and unit["fit"]["undecided"] == 0.02


def test_the_page_says_whether_fits_are_finished(folder):
    page = (folder / "diagnostics.md").read_text(encoding="utf-8")
    (line,) = (
        line for line in page.splitlines() if re.match(r"\| qdiffusion +\| W4A32\+W4A8 +\| rounding", line) and "fin" in line
    )
    assert [entry.strip() for entry in line.split("|")[4:-1]] == ["2", "2.0", "2.5", "0.410", "\N{EN DASH}", "unfinished"]


@pytest.mark.usefixtures("coarse")
def test_methods_without_learned_weights(tmp_path, observations, summarized):
    plain = [o for o in observations if o.cell.name == "qdiffusion" and o.phase == "rounding"]
    write(summarized(plain, noise_errors=[]), GradientObserver(), tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {f"{t}-rounding.png" for t in TOPICS[:3]}
    page = (tmp_path / "diagnostics.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, re.M) == ["Fit quality", "Gradient alignment of timestep groups"]


@pytest.mark.usefixtures("coarse")
def test_one_seed_has_numbers_and_no_intervals(tmp_path, observations, summarized):
    summary = summarized([o for o in observations if o.cell.seed == 0 and o.phase == "rounding"])
    write(summary, GradientObserver(), tmp_path)
    table = alignment_table(summary)
    assert all("\N{PLUS-MINUS SIGN}" not in cell.text for row in table.rows for cell in row)
    signed = table.rows[1][-1].text
    assert signed[0] in "+\N{MINUS SIGN}"


def test_heat_maps_show_the_mean_over_seeds(tmp_path, observations, summarized, monkeypatch):
    shown = []
    monkeypatch.setattr(Axes, "pcolormesh", _noting(Axes.pcolormesh, shown))
    summary = summarized(observations)
    gradients.heat_map(summary, "steps", tmp_path)
    assert len(shown) == 2 * 3
    arm = summary.of_phase("steps")[1]
    units = [unit for row in arm.rows for unit in row.observation.units]
    expected = np.mean([unit.observed["cosine"][4] for unit in units], axis=0)
    assert shown[5] == pytest.approx(expected)


def _noting(original, seen):
    def noted(self, *args, **kwargs):
        seen.append(np.asarray(args[-1]))
        return original(self, *args, **kwargs)

    return noted


@pytest.mark.usefixtures("coarse")
def test_groups_without_samples_are_marked(tmp_path, observations, summarized):
    observations = [o for o in observations if o.phase == "rounding"]
    for o in observations:
        for unit in o.units:
            unit.observed["cosine"][:, 4] = unit.observed["cosine"][:, :, 4] = np.nan
            unit.observed["loss"][:, 4] = np.nan
    summary = summarized(observations)
    write(summary, GradientObserver(), tmp_path)
    assert all(np.isfinite(x.mean) for x in summary.alignments[0].value)


def test_an_arm_keeps_its_style_in_every_picture(observations, summarized):
    summary = summarized(observations)
    titles = [arm.title for arm in summary.of_phase("steps")]
    assert [(one.title, one.style) for one in weights.of_phase(summary, "steps")] == [("gacq W4A8", titles.index("gacq W4A8"))]


def test_lines_of_many_arms_differ():
    styles = [line_style(i) for i in range(4 * len(COLOURS))]
    assert len({(s["color"], s["linestyle"]) for s in styles}) == len(styles)
    assert len(MARKERS) == len(COLOURS)


@pytest.mark.parametrize(("values", "scale"), [([0.2, 0.9], "linear"), ([0.01, 0.9], "log"), ([np.nan], "linear")])
def test_wide_values_stand_on_a_logarithmic_axis(values, scale):
    _, (axes,) = panels(1)
    axes.plot(values)
    log_if_wide(axes)
    assert axes.get_yscale() == scale


def test_tables_have_the_measured_numbers(observations, summarized):
    summary = summarized(observations)
    found = {table.title: table for table in tables(summary)}
    row = found["Gradient alignment of timestep groups"].rows[3]
    assert [cell.text for cell in row[:4]] == ["gacq", "W4A8", "steps", "3"]
    alignment = summary.alignment("gacq W4A8, steps")
    assert [cell.value for cell in row[4:]] == [
        *(alignment.value[m].mean for m in (0, 2, 4)),
        alignment.ends[2].mean,
        *(alignment.difference[m].mean for m in (2, 4)),
    ]
    assert found["Cost of the weighter"].rows[1][0].text == "gacq W4A8"
