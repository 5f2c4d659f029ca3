"""The page on Python runs as it stands; what it saves is the same bit for bit in a new process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from e2ekit import write_recipe
from enginekit import TOY

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"(?s)```python\n(.*?)```", PAGE.read_text(encoding="utf-8"))


def script(folder: Path, text: str) -> str:
    done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_methods_are_compared_and_the_last_is_loaded_in_a_new_process(tmp_path, monkeypatch, capsys):
    first, second, _ = blocks()
    lines = [line for line in first.splitlines() if line.strip()]
    assert len(lines) + len(second.splitlines()) <= 15
    keep = "\ntorch.save((states.x, states.t, q(states.x, states.t).sample.detach()), 'outputs')\n"
    monkeypatch.chdir(tmp_path)
    exec(first + keep, {})
    printed = capsys.readouterr().out.splitlines()
    errors = {line.partition(":")[0]: float(line.split()[1].rstrip(",")) for line in printed}
    assert 0 < errors["brecq"] < errors["nearest-minmax"]
    head = first.partition("with ptqbench.record_states")[0]
    equal = "\nx, t, kept = torch.load('outputs')\nprint(torch.equal(q(x, t).sample, kept))\n"
    assert script(tmp_path, head + second + equal) == "True\n"


def test_a_comparison_from_python(tmp_path, cache, monkeypatch):
    import ptqbench

    assert TOY.is_file()
    write_recipe(tmp_path).rename(tmp_path / "recipe.toml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PTQBENCH_CACHE", str(cache))
    names: dict[str, object] = {"ptqbench": ptqbench}
    exec(blocks()[2], names)
    run, q = names["run"], names["q"]
    assert {row["metric"] for row in run.cells()} >= {"eps-error", "psnr@fp"}
    assert {row["cell"] for row in run.ledger("nearest/W4A8/seed0")} == {"nearest/W4A8/seed0"}
    assert {row["method"] for row in run.differences()} == {"nearest", "gacq"}
    recorded = next(cell for cell in run.record.cells if cell.id == "nearest/W4A8/seed0")
    assert q.report.state_hash == recorded.state_hash and q.report.notes == ()
