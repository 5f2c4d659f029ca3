"""Pages that promise tests, name commands and link to others, and the workflow that others copy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from ptqbench.cli import cli

ROOT = Path(__file__).parents[1]
TRUST = (ROOT / "docs/trust.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TRUST)))


@pytest.mark.parametrize(("file", "test"), NAMED, ids=["::".join(filter(None, named)) for named in NAMED])
def test_what_the_page_on_trust_names_is_there(file: str, test: str) -> None:
    assert f"\ndef {test}" in (ROOT / file).read_text(encoding="utf-8")


def test_every_danger_on_the_page_has_an_answer_and_a_test() -> None:
    rows = [line for line in TRUST.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    kinds = [row[0] for row in cells if row[0].startswith("**")]
    assert [kind[2] for kind in kinds] == list("12345")
    assert all(len(row) == 3 for row in cells)
    assert all(row[1] and "`tests/" in row[2] for row in cells if not row[0].startswith("**"))


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    # YAML 1.1 reads the key "on" as true.
    found: dict[str, Any] = yaml.safe_load(text.replace("\non:", '\n"on":'))
    return found


def test_the_workflow_is_complete(workflow: dict[str, Any]) -> None:
    assert workflow["on"].keys() == {"push", "pull_request"}
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"] <= 60
    steps = job["steps"]
    text = "\n".join(step.get("run", "") for step in steps)
    assert "download.pytorch.org/whl/cpu" in text and "requirements-ci.txt" in text
    uses = {step["uses"].partition("@")[0]: step for step in steps if "uses" in step}
    assert uses.keys() >= {"actions/cache", "actions/upload-artifact", "actions/setup-python"}
    assert uses["actions/cache"]["with"]["path"] == job["env"]["PTQBENCH_CACHE"]
    assert "hashFiles" in uses["actions/cache"]["with"]["key"]
    # The report of a run that ended, or of a check that failed, is wanted most.
    wanted = [step for step in steps if "ptqbench check" in step.get("run", "") or "upload-artifact" in step.get("uses", "")]
    assert len(wanted) == 2
    assert all(step["if"] == "always()" for step in wanted)
    (comment,) = [step for step in steps if step.get("name") == "comment"]
    assert comment["if"].startswith("always()") and "check.md" in comment["run"]


def test_the_commands_of_the_workflow_are_ones_that_there_are(workflow: dict[str, Any]) -> None:
    (job,) = workflow["jobs"].values()
    lines = [step["run"].partition(" || ")[0].split() for step in job["steps"] if step.get("run", "").startswith("ptqbench ")]
    assert [line[1] for line in lines] == ["run", "check"]
    for _, name, *words in lines:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        command.make_context(name, words)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "plugins").glob("*/README.md"))]
FENCED = re.compile(r"(?ms)^( *)```(\w*)\n(.*?)^\1```")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text(encoding="utf-8")))
    targets = [(link, link.partition("#")) for link in links if "://" not in link]
    there = {link: page.parent / file if file else page for link, (file, _, _) in targets}
    assert [link for link, target in there.items() if not target.exists()] == []
    assert [link for link, (_, _, place) in targets if place and place not in anchors(there[link])] == []


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words after `ptqbench` of every command line of a page, those in its sentences included."""
    text = page.read_text(encoding="utf-8")
    blocks = [body for _, language, body in FENCED.findall(text) if language in ("bash", "console", "text", "yaml")]
    lines = [line for body in blocks for line in body.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(ptqbench [^`]+)`", FENCED.sub("", text))
    for said in [*lines, *(" ".join(words.split()) for words in inline)]:
        found = re.search(r"(?:^|[\s/'])ptqbench (.*)", said.partition(" #")[0])
        if found:
            command = re.split(r" \|\| | && | > ", found[1])[0]
            # What another command wraps ends with its quote.
            whole = command if command.count("'") % 2 == 0 else command.rpartition("'")[0]
            yield shlex.split(whole)


@pytest.mark.parametrize("page", [page for page in PAGES if any(command_lines(page))], ids=name_of)
def test_commands_and_options_that_a_page_names_are_there(page: Path) -> None:
    for words in command_lines(page):
        context, command = click.Context(cli), cli
        names = words[1:] if words[0] == "--traceback" else words
        while isinstance(command, click.Group) and names[:1] not in ([], ["COMMAND"]):
            found = command.get_command(context, names[0])
            assert found is not None, words
            context, command, names = click.Context(found), found, names[1:]
        if not isinstance(command, click.Group):
            _, left, _ = command.make_parser(context).parse_args(names)
            assert left == [], words
