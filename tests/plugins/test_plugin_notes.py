"""What shipped components and presets say of their papers and of released code: well formed, and each thing in one place."""

from __future__ import annotations

import re
from functools import cache

import pytest

from ptqbench.commands.describe_preset import preset_entry
from ptqbench.plugin.component import NOTES
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.records import PresetRecord, Record


@cache
def manager() -> PluginManager:
    return PluginManager(warn=lambda _: None)


def shipped() -> list[Record | PresetRecord]:
    return [record for record in manager().offers() if record.plugin.module.startswith("ptqbench_")]


def notes(record: Record | PresetRecord) -> list[str]:
    return [text for note in NOTES for text in getattr(record.entry, note)]


EVERY = pytest.mark.parametrize("record", shipped(), ids=lambda r: f"{r.role}-{r.name}")


@EVERY
def test_entries_go_on_from_their_headings(record: Record | PresetRecord) -> None:
    for text in notes(record):
        assert text == " ".join(text.split()) and len(text.split()) > 2
        assert not text.endswith((".", ";", ","))
        assert not text.startswith(tuple(NOTES.values()))


@EVERY
def test_only_what_has_a_paper_is_compared_with_one(record: Record | PresetRecord) -> None:
    assert record.entry.paper or not notes(record)


@EVERY
def test_no_entry_stands_twice(record: Record | PresetRecord) -> None:
    assert len(set(notes(record))) == len(notes(record))


@EVERY
def test_deviations_are_those_from_the_paper(record: Record | PresetRecord) -> None:
    for text in record.entry.deviations:
        assert not re.search(r"\breleased\b|not found", text)
    for text in record.entry.unstated:
        assert ";" in text, "what is open; what is done"


@pytest.mark.parametrize("record", manager().presets(), ids=lambda r: r.name)
def test_presets_leave_to_components_what_those_say(record: PresetRecord) -> None:
    components = preset_entry(record, manager())["components"]
    said = {text for component in components for note in NOTES for text in component[note]}
    assert not said & set(notes(record))
