"""A site of many runs: every run has its page, and the index what became of each row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner
from pagekit import Page
from paired_samples import sampled_run

from ptqbench.cli import cli
from ptqbench.results.history import Past, history_table
from ptqbench.results.overview import overview
from ptqbench.results.protocols import ANOTHER, UNNAMED

DAYS = ("2026-01-02", "2026-02-03", "2026-03-04")


def test_a_site_has_a_page_for_each_run_and_an_index_with_their_history(tmp_path: Path) -> None:
    for day, error in zip(DAYS, (7.0, 6.0, 4.0), strict=True):
        record = replace(sampled_run({"qdiffusion": 5.0, "gacq": error}), created=f"{day}T12:00:00+00:00")
        folder = tmp_path / "runs" / day
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(record.to_json())
    result = CliRunner().invoke(
        cli, ["report", str(tmp_path / "runs"), "--site", str(tmp_path / "site")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    index = Page((tmp_path / "site/index.html").read_text())
    pages = [link["href"] for link in index.all("a")]
    assert len(pages) == 3 and all((tmp_path / "site" / page).is_file() for page in pages)
    assert [page[:15] for page in pages] == [f"{day}-1200" for day in reversed(DAYS)]
    assert not index.all("script") and not index.all("link") and not index.all("img")
    first = next(i for i, entry in enumerate(index.entries) if entry.startswith("gacq"))
    values = [float(entry.split()[0]) for entry in index.entries[first + 1 : first + 4]]
    assert values[0] < values[1] < values[2]


def test_numbers_of_another_protocol_do_not_stand_beside_the_latest() -> None:
    """A Frechet distance of fewer images is larger, whatever the method."""
    latest, other, before = (sampled_run({"qdiffusion": 5.0, "gacq": error}) for error in (4.0, 7.0, 6.0))
    for cell in other.cells:
        for number in cell.metrics.values():
            number.protocol = "of fewer images"
    found = history_table([Past(Path(), record) for record in (latest, other, before)])
    assert found is not None
    rows = {row[0].text: row[1:] for row in found.rows}
    for row in (rows["qdiffusion W4A8"], rows["gacq W4A8"]):
        assert (row[1].text, row[1].value) == (ANOTHER, None)
        assert row[0].value is not None and row[2].value is not None


def test_numbers_that_do_not_say_how_they_were_measured_are_not_called_those_of_another_protocol() -> None:
    latest, early = sampled_run({"qdiffusion": 5.0, "gacq": 4.0}), sampled_run({"qdiffusion": 5.0, "gacq": 6.0})
    for cell in early.cells:
        for number in cell.metrics.values():
            number.protocol = ""
    for runs in ((latest, early), (early, early)):
        found = history_table([Past(Path(), record) for record in runs])
        assert found is not None
        assert {(row[-1].text, row[-1].value) for row in found.rows} == {(UNNAMED, None)}
    assert UNNAMED in [entry.text for entry in overview(early).rows[1]]


def test_a_page_keeps_its_name_and_goes_with_its_run(tmp_path: Path) -> None:
    def site() -> set[str]:
        words = ["report", str(tmp_path / "runs"), "--site", str(tmp_path / "site")]
        assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
        return {path.name for path in (tmp_path / "site").glob("*.html")}

    for day in DAYS[:2]:
        (tmp_path / "runs" / day).mkdir(parents=True)
        record = replace(sampled_run({"gacq": 5.0}), created=f"{day}T12:00:00+00:00")
        (tmp_path / "runs" / day / "results.json").write_text(record.to_json())
    both = site()
    (own := tmp_path / "site" / sorted(both)[0].replace("1200", "1201")).write_text("a page of somebody else")
    (tmp_path / "runs" / DAYS[0] / "results.json").unlink()
    assert site() == {name for name in both if not name.startswith(DAYS[0])} | {own.name}


def test_a_site_is_no_page_of_one_run(tmp_path: Path) -> None:
    words = ["report", str(tmp_path), "--site", str(tmp_path / "site"), "--to", str(tmp_path / "page.html")]
    assert CliRunner().invoke(cli, words).exit_code == 2
