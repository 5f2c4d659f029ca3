"""Standard streams that always take what is printed: any code page, a reader that leaves, none at all."""

from __future__ import annotations

import codecs
import io
import os
import sys

PLAIN = "ptqbench-plain"
"""The error handler that spells characters which an encoding lacks."""

SPELLED = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{DOWNWARDS ARROW}": "v",
    "\N{UPWARDS ARROW}": "^",
    "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{SUPERSCRIPT TWO}": "2",
    "\N{ALMOST EQUAL TO}": "~",
    "\N{HORIZONTAL ELLIPSIS}": "...",
}
"""What is printed instead: a sign that became a question mark would be read wrongly."""


class PatientStream(io.TextIOWrapper):
    """Text output that goes nowhere once its reader has left: what a command found, and its exit code, stay as they are."""

    def write(self, text: str, /) -> int:
        """Write `text`, or drop it."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._turn_away()
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        try:
            super().flush()
        except BrokenPipeError:
            self._turn_away()

    def _turn_away(self) -> None:
        # Also for what is buffered still, and for Python, which flushes once more at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def prepare() -> None:
    """Make stdout and stderr of this process such streams; for the console script, whose process nobody else prints from."""
    codecs.register_error(PLAIN, _spell)
    # A closed one is None. Opened in this order, each takes the number that its name stands for.
    sys.stdout = _patient(sys.stdout)
    sys.stderr = _patient(sys.stderr)


def _patient(stream: object) -> io.TextIOWrapper:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if type(stream) is not io.TextIOWrapper:
        return stream  # type: ignore[return-value]
    encoding, buffered = stream.encoding, stream.line_buffering
    return PatientStream(stream.detach(), encoding=encoding, errors=PLAIN, line_buffering=buffered)


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(SPELLED.get(char, "?") for char in missing), error.end
