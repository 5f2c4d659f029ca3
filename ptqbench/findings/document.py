"""A findings file: which runs there are, and which claims they are asked about. Strict TOML, checked in one pass."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ptqbench.errors import UserError, why_unreadable
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.words import problems_of

Text = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    """Base of all tables: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunEntry(Table):
    """A kept run: `recipe` is relative to the findings file, `overrides` are those of `--set`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    recipe: Text
    overrides: tuple[str, ...] = ()
    note: str = ""


class Claim(Table):
    """One claim. `ours` and `theirs` are rows of the run: "method/bits" or "method/bits/variant".

    Without `metrics` it is asked in all of the document's that its run has measured. `published` is false for questions of
    one's own, which can be answered but not reproduced.
    """

    text: Text
    source: str = ""
    run: Text
    ours: Text
    theirs: Annotated[tuple[Text, ...], Field(min_length=1)]
    metrics: tuple[Text, ...] = ()
    expects: Literal["better", "worse", "no difference"] = "better"
    published: bool = True


class Figure(Table):
    """A number of a data file, shown as it is: `key` leads to {value or mean, low, high, n or seeds}.

    Each word goes one level down: the name of a table's entry, its place or "field=value" for an item of a list.
    """

    text: Text
    file: Text
    key: tuple[str, ...]


class TimeRatio(Table):
    """How much longer the units of one row took to fit than those of another, by the seconds that their run recorded."""

    run: Text
    ours: Text
    theirs: Text


class SideBySide(Table):
    """One metric of all rows of some runs, a column for each run: what equal rows come to under other settings."""

    metric: Text
    runs: Annotated[tuple[Text, ...], Field(min_length=1)]


class Topic(Table):
    """A question as a heading, its answer in a sentence, then words, claims, values, fitting times and figures.

    `counts` says how many comparisons had which outcome when the words were written: they are refused once that is no longer
    so.
    """

    heading: Text
    answer: str = ""
    counts: dict[str, int] = {}
    text: str = ""
    claims: tuple[Claim, ...] = ()
    values: tuple[SideBySide, ...] = ()
    times: tuple[TimeRatio, ...] = ()
    figures: tuple[Figure, ...] = ()
    pictures: tuple[str, ...] = ()


class Document(Table):
    """The whole file. `results` is the folder of kept records, relative to the file; `metrics` are those of claims that name
    none."""

    title: Text
    intro: str = ""
    results: Text
    metrics: tuple[Text, ...] = ()
    runs: Annotated[tuple[RunEntry, ...], Field(min_length=1)]
    topics: Annotated[tuple[Topic, ...], Field(min_length=1)]


def read_document(path: Path) -> Document:
    """Read and check a findings file. Raises `UserError` naming every problem with its place."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file", "name a findings file, such as docs/findings.toml") from error
    except OSError as error:
        why = f"{path}: cannot be read: {why_unreadable(error)}"
        raise UserError(why, "a findings file is a TOML file in UTF-8") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML: {error}", "a findings file is a TOML file in UTF-8") from error
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        problems = Problems()
        problems.extend(problems_of(error, Document, ()))
        raise problems.error(str(path), "") from error
    known = [run.name for run in document.runs]
    claims = {claim.run for topic in document.topics for claim in topic.claims}
    times = {asked.run for topic in document.topics for asked in topic.times}
    values = {run for topic in document.topics for asked in topic.values for run in asked.runs}
    unknown = sorted((claims | times | values) - set(known))
    if unknown:
        raise UserError(f"{path}: topics name runs that are not there: {', '.join(unknown)}", f"runs: {', '.join(known)}")
    bare = [claim.text for topic in document.topics for claim in topic.claims if not (claim.metrics or document.metrics)]
    if bare:
        raise UserError(f"{path}: no metrics for the claim {bare[0]!r}", "name some there, or for all claims at the top")
    return document
