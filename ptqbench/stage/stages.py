"""What a stage says while it runs."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float], None]
"""Progress: what is being done, and how far it is in [0, 1]."""
