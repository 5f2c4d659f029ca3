"""The reporters "markdown" and "latex": the same tables in two markup languages, laid out by tabulate."""

from __future__ import annotations

from abc import abstractmethod

from tabulate import tabulate

from ptqbench.results import markdown
from ptqbench.results.record import RunRecord
from ptqbench.results.report import tables_of
from ptqbench.results.tables import Cell, Column, Table
from ptqbench.roles.reporter import Reporter
from ptqbench_reports import MarkupOptions

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "\N{DAGGER}": r"$\dagger$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    **{char: "\\" + char for char in "&%$#_{}"},
}


class MarkupReporter(Reporter):
    """What both share: the tables one after the other."""

    layout = ""
    options: MarkupOptions

    def render(self, run: RunRecord, *, width: int | None = None) -> str:
        """The main table and, unless `all` is false, those behind it; `width` does not matter."""
        return "\n".join(map(self.table, tables_of(run, everything=self.options.all)))

    @abstractmethod
    def table(self, table: Table) -> str:
        """One table with title and notes."""

    @abstractmethod
    def escape(self, text: str) -> str:
        """Plain text as markup."""

    @abstractmethod
    def entry(self, cell: Cell) -> str:
        """A cell as markup."""

    def heading(self, column: Column) -> str:
        """A column's heading as markup."""
        return self.escape(f"{column.heading} ({column.remark})" if column.remark else column.heading)

    def body(self, table: Table) -> str:
        """The table itself."""
        return str(
            tabulate(
                [[self.entry(cell) for cell in row] for row in table.rows],
                headers=[self.heading(column) for column in table.columns],
                tablefmt=self.layout,
                colalign=["left" if column.text else "right" for column in table.columns] if table.rows else None,
                disable_numparse=True,
            )
        )


class MarkdownReporter(MarkupReporter):
    """Pipe tables; what is better than the baseline is bold."""

    suffix = ".md"
    layout = "pipe"

    def table(self, table: Table) -> str:
        notes = "".join(f"- {self.escape(note)}\n" for note in table.notes)
        return f"## {self.escape(table.title)}\n\n{markdown.lead(table.lead)}{self.body(table)}\n\n{notes}"

    def escape(self, text: str) -> str:
        return markdown.escape(text)

    def entry(self, cell: Cell) -> str:
        text = self.escape(f"{cell.text}: {cell.note}" if cell.note else cell.text)
        return f"**{text}**" if cell.tone == "good" else text


class LatexReporter(MarkupReporter):
    """table environments with the rules of booktabs; what is better than the baseline is bold, the sentences are comments.

    A caption is the table's title and what it was measured on, about two lines; its notes stand below the table.
    """

    suffix = ".tex"
    layout = "latex_raw"

    def table(self, table: Table) -> str:
        notes = " ".join(self.escape(note.rstrip(".")) + "." for note in [*table.footnotes, *table.notes])
        lead = [f"% {' '.join(f'{line.label} {line.text}'.split())}" for line in table.lead if line.label]
        facts = [line.text for line in table.lead if not line.label]
        caption = rf"\caption{{{' '.join(self.escape(text.rstrip('.')) + '.' for text in [table.title, *facts])}}}"
        below = [rf"\par\smallskip{{\footnotesize {notes}\par}}"] if notes else []
        return "\n".join([*lead, r"\begin{table}", r"\centering", caption, self.body(table), *below, r"\end{table}", ""])

    def body(self, table: Table) -> str:
        top, middle, bottom = r"\toprule", r"\midrule", r"\bottomrule"
        text = super().body(table)
        for rule in (top, middle):
            text = text.replace(r"\hline", rule, 1)
        return text.replace(r"\hline", bottom)

    def escape(self, text: str) -> str:
        # An empty line would end the paragraph, which no caption or cell can do.
        return "".join(LATEX.get(char, char) for char in " ".join(text.split()))

    def entry(self, cell: Cell) -> str:
        text = self.escape(cell.text)
        return rf"\textbf{{{text}}}" if cell.tone == "good" else text
