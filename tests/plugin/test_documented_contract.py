"""The lists of roles and hooks of docs/plugins.md are the program's."""

import re
from pathlib import Path

from ptqbench.plugin.hookspecs import HOOKS, ROLES

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_the_page_lists_every_role_with_its_interface_and_every_hook():
    rows = re.findall(r"(?m)^\| ([\w-]+) \| `(\w+)` \| `(\w+)` \|", PAGE)
    assert rows == [(role.name, role.interface, role.module) for role in ROLES]
    assert [hook for hook in HOOKS if f"`{hook}`" not in PAGE] == []
