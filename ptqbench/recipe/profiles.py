"""Profiles: named changes that a recipe brings for itself, such as a small version to try it out with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptqbench.plugin.names import suggest
from ptqbench.recipe.extend import merge
from ptqbench.recipe.problems import Problems

PROFILES = "profiles"


def with_profile(data: Mapping[str, Any], profile: str, problems: Problems) -> dict[str, Any]:
    """TOML data with a profile's table over it as one method's goes over another's, and "-PROFILE" at the recipe's name.

    Without a profile ("") the data is that of a recipe which has none: what is compared does not depend on profiles that are
    not used. One that is not there is reported.
    """
    plain = {key: value for key, value in data.items() if key != PROFILES}
    known = data.get(PROFILES, {})
    if not isinstance(known, dict) or not all(isinstance(table, dict) for table in known.values()):
        problems.add((PROFILES,), "must be tables, one for each profile", "write [profiles.small.sampling] and the like")
        return plain
    if not profile:
        return plain
    if profile not in known:
        problems.add((PROFILES,), f'there is no profile "{profile}"', suggest(profile, known, "profiles here") if known else "")
        return plain
    changed = merge(plain, known[profile])
    own = known[profile].get("recipe")
    name = plain.get("recipe", {}).get("name") if isinstance(plain.get("recipe"), dict) else None
    # A profile whose own [recipe] is no table is told with the other mistakes.
    if isinstance(name, str) and isinstance(changed["recipe"], dict) and not (isinstance(own, dict) and "name" in own):
        changed["recipe"]["name"] = f"{name}-{profile}"
    return changed
