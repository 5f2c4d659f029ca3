"""Rendered tables, letter by letter, and what holds for them at every width.

The expected texts lie in `golden/`. After a wanted change, write them anew with PTQBENCH_WRITE_GOLDEN=1 and read the
diff.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison_samples import one_seed, two_seeds
from paired_samples import compared
from rich.cells import cell_len

from ptqbench.results.record import RunRecord
from ptqbench.roles.reporter import Reporter
from ptqbench_reports import ptqbench_components

GOLDEN = Path(__file__).parent / "golden"
COMPONENTS = {component.name: component for component in ptqbench_components()}
RUNS = {"one_seed": one_seed, "two_seeds": two_seeds, "compared": compared}


def reporter(name: str, **options: str) -> Reporter:
    component = COMPONENTS[name]
    built: Reporter = component.create(component.options(**options))
    return built


CASES = [
    *((name, "terminal", width) for name in RUNS for width in (80, 100, 140)),
    *((name, form, None) for name in RUNS for form in ("markdown", "csv", "latex")),
]


@pytest.mark.parametrize(("name", "form", "width"), CASES)
def test_golden(name: str, form: str, width: int | None) -> None:
    made = reporter(form, color="never") if form == "terminal" else reporter(form)
    text = made.render(RUNS[name](), width=width)
    path = GOLDEN / f"{name}{f'_{width}' if width else ''}{made.suffix}"
    if os.environ.get("PTQBENCH_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    assert _shortened(text) == _shortened(expected) if form == "csv" else text == expected


def _shortened(text: str) -> str:
    """Unrounded figures in ten digits: the last ones are the processor's."""
    return re.sub(r"\d+\.\d+(?:e[-+]\d+)?", lambda found: f"{float(found[0]):.10g}", text)


@pytest.mark.parametrize("record", [one_seed, two_seeds, compared])
@pytest.mark.parametrize("width", range(60, 201, 7))
def test_no_width_is_exceeded_and_no_number_is_cut(record: Callable[[], RunRecord], width: int) -> None:
    text = reporter("terminal", color="never").render(record(), width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    squeezed = re.sub(r"\s", "", text)
    wide = reporter("terminal", color="never").render(record(), width=400)
    for number in re.findall(r"\d+\.\d+ ± \d+\.\d+(?: / \d+\.\d+)?", wide):
        assert re.sub(r"\s", "", number) in squeezed


def test_colour_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = reporter("terminal", color="never").render(one_seed(), width=100)
    coloured = reporter("terminal", color="always").render(one_seed(), width=100)
    assert "\x1b" not in plain
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()
    assert reporter("terminal").render(one_seed(), width=100) == plain
    monkeypatch.setenv("COLUMNS", "80")
    assert reporter("terminal").render(one_seed()) == reporter("terminal").render(one_seed(), width=80)


def test_csv_is_read_back_unrounded() -> None:
    record = one_seed()
    rows = list(csv.DictReader(io.StringIO(reporter("csv").render(record))))
    assert len(rows) == len(record.cells)
    gacq = next(row for row in rows if (row["method"], row["bits"]) == ("gacq", "W4A32"))
    number = next(c for c in record.cells if c.id == "gacq/W4A32/seed0").metrics["psnr@fp"]
    assert (float(gacq["psnr@fp"]), float(gacq["psnr@fp low"]), int(gacq["psnr@fp n"])) == (
        number.value,
        number.low,
        512,
    )
    baseline = [row for row in rows if row["method"] == "qdiffusion"]
    assert len(baseline) == 2
    assert rows[-1]["status"] == "failed"
    assert rows[-1]["eps-error"] == ""
    assert "not finite" in rows[-1]["reason"]


def test_csv_has_the_differences_in_its_last_columns() -> None:
    record = compared()
    rows = list(csv.DictReader(io.StringIO(reporter("csv").render(record))))
    gacq = next(row for row in rows if (row["method"], row["bits"]) == ("gacq", "W4A8"))
    entry = next(c for c in record.comparisons if (c.method, c.bits, c.metric) == ("gacq", "W4A8", "fd-digits@data"))
    name = "fd-digits@data"
    figures = [float(gacq[f"{name} {part}"]) for part in ("difference", "difference low", "difference high", "p adjusted")]
    assert figures == [entry.difference, entry.low, entry.high, entry.p_adjusted]
    assert gacq[f"{name} verdict"] == entry.verdict == "better"
    assert [row[f"{name} verdict"] for row in rows if row["method"] == "qdiffusion"] == ["", ""]
    refused = next(row for row in rows if (row["method"], row["bits"]) == ("minmax", "W4A8"))
    assert (refused["psnr@fp verdict"], refused["psnr@fp difference"]) == ("not comparable", "")


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_markup_escapes_what_a_user_may_write(form: str) -> None:
    record = one_seed()
    record.title = "50 % of a_b & c|d <e>\n\n[f](g) &lt; ~~h~~"
    record.protocol["model"] = "two\nlines"
    record.cells[-1].reason = "x | y_z \\ {w}"
    text = reporter(form).render(record)
    expected = {
        "markdown": (r"50 % of a\_b \& c\|d \<e\> \[f\](g) \&lt; \~\~h\~\~", "two lines", r"x \| y\_z \\ {w}"),
        "latex": (
            r"50 \% of a\_b \& c\textbar{}d \textless{}e\textgreater{} [f](g) \&lt;",
            "two lines",
            r"x \textbar{} y\_z \textbackslash{} \{w\}",
        ),
    }
    for words in expected[form]:
        assert words in text
