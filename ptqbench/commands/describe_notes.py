"""What `ptqbench describe` says of sources: the paper, what the paper leaves open, and the released code, kept apart."""

from __future__ import annotations

from ptqbench.commands.output import print_wrapped
from ptqbench.plugin.component import NOTES, Component, Preset


def notes_entry(described: Component | Preset) -> dict[str, list[str]]:
    """The notes by field, for JSON."""
    return {note: list(getattr(described, note)) for note in NOTES}


def print_notes(described: Component | Preset, indent: str = "  ") -> None:
    """Print the notes, a paragraph each, under the heading of their kind."""
    for note, heading in NOTES.items():
        for text in getattr(described, note):
            print_wrapped(f"{heading}: {text}", indent)
