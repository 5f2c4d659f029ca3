"""Markdown for pages that are kept in a repository: without padding, so that a changed entry changes one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ptqbench.results.tables import Line

MARKUP = "\\|*_`<>[]&~"
"""Characters that would end a table's cell or start markup or an entity."""


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool] = ()) -> str:
    """A pipe table; entries are markdown already, and only bars in them are escaped. `right` says which columns are flushed
    right; none if it is empty."""
    rules = ["---:" if flush else "---" for flush in right or [False] * len(headings)]
    return "\n".join(f"| {' | '.join(map(_unbarred, line))} |" for line in (headings, rules, *rows))


def lead(lines: Sequence[Line]) -> str:
    """Sentences before a table, each a paragraph behind its label."""
    return "".join(f"**{escape(x.label)}** {escape(x.text)}\n\n" if x.label else f"{escape(x.text)}\n\n" for x in lines)


def escape(text: str) -> str:
    """Plain text as markdown, in one line: another would be a paragraph of its own, and end a table."""
    for char in MARKUP:
        text = text.replace(char, f"\\{char}")
    return " ".join(text.split())


def _unbarred(text: str) -> str:
    """An entry whose bars do not end its cell; those of escaped text are left as they are."""
    return text.replace("\\|", "|").replace("|", "\\|")
