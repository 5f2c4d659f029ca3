"""The findings page of this repository is the one that its kept results give."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_command_writes():
    words = [sys.executable, "-m", "ptqbench", "findings", "docs/findings.toml", "--out", "docs/findings.md", "--check"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
