"""Words for roles and rows, and help with misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FULL_PRECISION = "full-precision"
"""Name of the row that stands in every comparison without being asked for."""


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """The known name that resembles `name` most, or "" if none does; case is ignored."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=likeness)
    return by_lower[close[0]] if close else ""


def suggest(name: str, known: Iterable[str], what: str = "allowed") -> str:
    """A remedy in one sentence: the nearest name if there is one, then everything there is."""
    names = sorted(set(known))
    close = nearest(name, names)
    guess = f'did you mean "{close}"? ' if close else ""
    return f"{guess}{what}: {', '.join(names)}" if names else f"{guess}there is none"


_ROLE_WORDS = {
    "range": "range estimator",
    "pass": "plan pass",
    "model": "model source",
    "features": "feature extractor",
    "loss": "loss term",
    "method": "method preset",
}


def role_words(role: str) -> str:
    """A role's name as a noun, for example "weight quantizer" for "weight-quantizer"."""
    return _ROLE_WORDS.get(role, role.replace("-", " "))


def with_article(role: str) -> str:
    """The same with "a" or "an"."""
    words = role_words(role)
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def row_name(method: str, bits: str, variant: str) -> str:
    """What a row of the table is called: "gacq/W4A8", "gacq/W4A8/iterations=5"."""
    return "/".join(part for part in (method, bits, variant) if part)
