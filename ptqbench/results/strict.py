"""How records are read."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""Every field of its type and every number finite, none that is not known."""
