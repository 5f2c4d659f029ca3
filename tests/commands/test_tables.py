"""Tables keep every word whole on terminals of any width."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len

from ptqbench.commands.tables import NARROW, print_rows

HEADINGS = ("name", "kind", "nothing", "words", "count", "more", "last")


def rows(seed: int) -> list[tuple[str, ...]]:
    rng = random.Random(seed)

    def words(count: int, most: int) -> str:
        return " ".join(rng.choice("abcdé☃日") * rng.randint(1, most) for _ in range(count))

    return [
        (f"row{i}", words(1, 8), "", words(rng.randint(0, 12), 20), f"{10**i}", words(2, 17), words(9, 9)) for i in range(5)
    ]


def printed(table, width: int, capsys, keep: int = 2) -> list[str]:
    print_rows(width, HEADINGS, table, keep, ("count",))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("width", [20, NARROW - 1, NARROW, 80, 100, 120, 300])
def test_no_word_is_lost_or_broken_and_no_line_too_long(seed, width, capsys):
    table = rows(seed)
    lines = printed(table, width, capsys)
    found = {word for line in lines for word in line.split()}
    assert {word for row in table for value in row for word in value.split()} <= found
    assert "nothing" not in " ".join(lines)
    if width >= NARROW:
        assert all(cell_len(line) <= width for line in lines)
        headings = [line.split() for line in lines if line.startswith("name ")]
        assert [names[:2] for names in headings] == [["name", "kind"]] * len(headings)
        assert [name for names in headings for name in names[2:]] == ["words", "count", "more", "last"]


def test_a_wide_terminal_needs_one_table_and_one_line_a_row(capsys):
    table = rows(0)
    assert len(printed(table, 1000, capsys)) == 2 + len(table)


def test_columns_on_the_right_end_together(capsys):
    table = [("a", "b", "", "w", count, "m", "l") for count in ("5", "123456789")]
    first, second = printed(table, 120, capsys)[2:]
    assert first.index("5") == second.index("9")


def test_room_is_shared_by_the_columns_that_want_it(capsys):
    table = [("a", "b", "", "one two three four", "1", "six seven eight nine", "y")]
    assert "one two three four   " in printed(table, 100, capsys)[2]
    tight = printed(table, 76, capsys)[2]
    assert "one two three four   " in tight
    assert "six seven eight nine   " in tight


def test_a_word_wider_than_the_terminal_stacks_the_rows(capsys):
    table = [("a", "b", "", "w" * 90, "1", "x", "y")]
    assert printed(table, 80, capsys) == ["a  b", "    words: " + "w" * 90, "    count: 1", "    more: x", "    last: y"]


def test_a_table_without_rows_shows_its_headings(capsys):
    assert printed([], 120, capsys)[0].split() == list(HEADINGS)
