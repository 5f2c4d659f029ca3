"""The page of a run: read back as HTML, it holds the numbers, loads nothing, and says in words what it shows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from comparison_samples import cell, one_seed, run
from pagekit import Page
from paired_samples import sampled_run
from PIL import Image

from ptqbench.report.page import MOST_PICTURE_BYTES, picture, render
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.fits import FitQuality, StageLosses
from ptqbench.results.overview import overview
from ptqbench.results.record import Executed, RunRecord


def compared() -> RunRecord:
    return attach_comparisons(sampled_run({"qdiffusion": 5.0, "gacq": 4.0, "nearest": 900.0}))


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "samples.png")
    return tmp_path


@pytest.mark.parametrize("record", [compared(), attach_comparisons(one_seed()), run(cell("gacq", "W4A8", 0, (1, 2, 3, 4, 5)))])
def test_a_page_holds_every_number_of_the_main_table_under_one_heading(record: RunRecord, beside: Path) -> None:
    text = render(record, beside)
    page = Page(text)
    assert len(page.all("h1")) == 1
    main = overview(record, alone=False)
    for row in main.rows:
        assert [entry for entry in (c.text for c in row) if entry not in page.entries] == []
    for line in main.lead:
        assert line.text in text
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 2
    assert len(text.encode()) < 5 * 2**20


def test_a_page_loads_nothing_and_every_picture_is_told_in_words(beside: Path) -> None:
    text = render(compared(), beside)
    page = Page(text)
    pictures = page.all("svg")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(pictures) > 1 and len(page.all("img")) == 1
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert all(set(attributes["aria-labelledby"].split()) <= set(ids) for attributes in pictures)
    assert len(ids) == len(set(ids))
    assert not page.all("script") and not page.all("link")
    loaded = [x[name] for _, x in page.elements for name in ("src", "href", "xlink:href") if name in x]
    assert [address[:40] for address in loaded if not address.startswith(("#", "data:"))] == []
    assert re.findall(r"url\((?!#)|@import", text) == []


def test_sections_without_data_are_left_out() -> None:
    text = render(run(cell("gacq", "W4A8", 0, (1, 2, 3, 4, 5))))
    assert 'id="differences"' not in text and 'id="samples"' not in text and 'id="failures"' not in text
    assert 'id="timesteps"' in text
    assert 'id="failures"' in render(attach_comparisons(one_seed()))


def test_fits_are_summed_up_and_listed_unit_by_unit() -> None:
    record = run(cell("gacq", "W4A8", 0, (1, 2, 3, 4, 5)))
    assert 'id="fits"' not in render(record)
    record.cells[-1].fits = [FitQuality("rounding", "mid", 160, StageLosses(1.336, 0.405, 0.507), variables=9, undecided=0.214)]
    text = render(record)
    page = Page(text)
    assert "Fit quality by unit" in text and "gacq W4A8: units, phase rounding (160 iterations)" in text
    assert {"unfinished", "21.4", "25.2", "mid", "1.336", "0.4050", "0.5070"} <= set(page.entries)


def test_executed_times_stand_in_a_section_of_their_own_and_a_slow_down_is_told() -> None:
    record = run(cell("gacq", "W4A8", 0, (1, 2, 3, 4, 5)))
    assert 'id="executed"' not in render(record)
    slow = Executed("torch 2", "a", 16, 1, 9, [0.1] * 3, [0.2, 0.19, 0.21], [0.5, 0.48, 0.52], 0.0, 50.0, [2.0, 2.0], [0, 0])
    record.cells[-1].executed = {"torch": slow}
    text = render(record)
    assert {"torch", "0.500 \N{PLUS-MINUS SIGN} 0.020", "0%"} <= set(Page(text).entries)
    assert "1 thread, 9 pairs" in text and "Slower than full precision: gacq/W4A8/seed0 in torch." in text


def test_names_are_text_wherever_they_stand(beside: Path) -> None:
    evil = '<script>alert(1)</script>"$x^{'
    record = run(cell(evil, "W4A8", 0, (1, 2, 3, 4, 5)), cell("qdiffusion", "W4A8", 0, (2, 2, 3, 4, 5)))
    record = replace(record, title=evil, invocation=[evil], protocol={evil: evil}, methods={evil: {"use": evil}})
    for one in record.cells:
        one.metrics = {f"{name}</svg>": number for name, number in one.metrics.items()}
    text = render(attach_comparisons(record), beside)
    page = Page(text)
    assert not page.all("script")
    assert evil in page.entries


def test_a_large_picture_is_reduced_until_it_fits(tmp_path: Path) -> None:
    noise = Image.merge("RGB", [Image.effect_noise((1200, 1200), 90) for _ in "RGB"])
    noise.save(tmp_path / "samples.png")
    assert (tmp_path / "samples.png").stat().st_size > MOST_PICTURE_BYTES
    found = picture(tmp_path / "samples.png")
    assert found is not None and found.reduced == 2 and found.width == 600
    assert len(found.source) < 1.4 * MOST_PICTURE_BYTES
    (tmp_path / "samples.png").write_text("no picture")
    assert picture(tmp_path / "samples.png") is None
