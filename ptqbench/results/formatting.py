"""Numbers as text: as many digits as the interval supports."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

MINUS = "\N{MINUS SIGN}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
MOST_DECIMALS = 6


def measured(value: float, low: float, high: float, spread: float | None = None) -> str:
    """Value and interval: "1.234 ± 0.056", or "1.2 [0.0, 3.1]" where the interval is not centred.

    A spread over seeds is appended: "1.234 ± 0.056 / 0.011". Intervals that no decimals show have a power: "(2.71 ± 0.15)e-6".
    """
    half = (high - low) / 2
    if power := _power(value, half):
        unit = 10.0**-power
        scaled = None if spread is None else spread * unit
        return f"({measured(value * unit, low * unit, high * unit, scaled)})e{power}"
    places = decimals(half) if half > 0 else None
    if places is None:
        text = significant(value)
    elif centred(value, low, high):
        text = f"{value:.{places}f} {PLUS_MINUS} {half:.{places}f}"
    else:
        text = f"{value:.{places}f} [{low:.{places}f}, {high:.{places}f}]"
    if spread is not None:
        text += f" / {spread:.{places}f}" if places is not None else f" / {significant(spread)}"
    return text.replace("-", MINUS)


def centred(value: float, low: float, high: float) -> bool:
    """Whether an interval lies symmetric about its value, but for rounding; one without any width does."""
    half = (high - low) / 2
    return not half > 0 or math.isclose((high + low) / 2, value, rel_tol=1e-6, abs_tol=half * 1e-6)


def difference(value: float, low: float, high: float) -> str:
    """A difference and its interval, which lies symmetric about it, with its sign: "+0.31 ± 0.08", "(+310 ± 80)e-9"."""
    if power := _power(value, (high - low) / 2):
        unit = 10.0**-power
        return f"({difference(value * unit, low * unit, high * unit)})e{power}"
    places = decimals((high - low) / 2)
    if high <= low:
        return "0" if value == 0 else f"{'+' if value > 0 else MINUS}{significant(abs(value))}"
    sign = "+" if value >= 0 else MINUS
    return f"{sign}{abs(value):.{places}f} {PLUS_MINUS} {(high - low) / 2:.{places}f}"


def decimals(half: float) -> int:
    """Decimal places that show a half-width with two significant digits."""
    if not math.isfinite(half) or half <= 0:
        return 0
    return min(MOST_DECIMALS, max(0, 1 - math.floor(math.log10(half))))


def _power(value: float, half: float) -> int:
    """The exponent of the unit in which a small number and its half-width are shown; 0 where `MOST_DECIMALS` are enough."""
    if not 0 < half < 10.0 ** (1 - MOST_DECIMALS):
        return 0
    return power_of_thousand([max(abs(value), half)])


def significant(value: float, digits: int = 4) -> str:
    """A number with so many significant digits and no exponent between 1e-5 and 1e7."""
    if not math.isfinite(value) or (value != 0 and not 1e-5 <= abs(value) < 1e7):
        return f"{value:.{digits}g}"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def seconds(value: float) -> str:
    """Seconds with two or three digits: "0.42", "8.3", "142"."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def byte_size(count: int) -> str:
    """Bytes in the unit that leaves one to four digits: "912 B", "4.2 MiB"."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if size >= 10 or units[0] == "B" else f"{size:.1f} {units[0]}"


def plain(text: str) -> str:
    """A message in one line without colours and control characters, which no markup has a way to write."""
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text)
    return "".join(char for char in " ".join(text.split()) if char.isprintable())


def ranges(numbers: Sequence[int]) -> str:
    """Sorted whole numbers with runs of three and more drawn together: "0 to 4, 7"."""
    runs: list[list[int]] = []
    for x in numbers:
        if runs and x == runs[-1][-1] + 1:
            runs[-1].append(x)
        else:
            runs.append([x])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def typical(values: Sequence[float]) -> float:
    """The geometric mean of sizes: between the bit settings of a table, and not moved by one row that went wrong."""
    sizes = [abs(x) for x in values if x and math.isfinite(x)]
    return math.exp(statistics.fmean(map(math.log, sizes))) if sizes else 0.0


def power_of_thousand(values: Sequence[float]) -> int:
    """The exponent e (0, -3, -6 ...) so that values shown in units of 10^e have their median near 1 to 1000.

    Only small numbers are rescaled: a kernel distance of 0.0012 reads better as 1.2 under a heading that says 1e-3.
    """
    typical = statistics.median(map(abs, values)) if values else 0.0
    if not math.isfinite(typical) or typical == 0 or typical >= 0.01:
        return 0
    return max(-300, 3 * math.floor(math.log10(typical) / 3))


def grid_words(spec: Mapping[str, Any] | None) -> str:
    """A ledger's grid in words: "4 bit per channel", with what departs from an asymmetric grid shared over steps.

    None is a layer's tensor that no grid rounds: "full precision".
    """
    if not spec:
        return "full precision"
    text = f"{spec.get('bits')} bit per {spec.get('per', 'tensor')}"
    if spec.get("symmetric"):
        text += ", symmetric"
    return text + (f", {spec['steps']} step groups" if spec.get("steps", 1) != 1 else "")
