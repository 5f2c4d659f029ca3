"""The plugins that docs/plugins.md shows run as they stand there, and its lists of roles and hooks are the program's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from enginekit import TOY, cell_of, context, experiment, recipe, run_cell

from ptqbench.plugin.hookspecs import HOOKS, ROLES
from ptqbench.recipe.experiment import Experiment
from ptqbench.results.record import CellRecord
from ptqbench.sampling.reference import calibration_set
from ptqbench.stage.cache import Costs

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE)


@pytest.fixture
def made(tmp_path):
    """The toy experiment with the page's plugin for one role, and its method qdiffusion with overrides."""

    def make(role: str, *overrides: str) -> Experiment:
        (source,) = [block for block in BLOCKS if f'Component("{role}"' in block]
        (tmp_path / "page.py").write_text(source)
        raw = recipe()
        raw["recipe"]["plugins"] = [str(TOY), str(tmp_path / "page.py")]
        return experiment("model.network=plain", *overrides, methods=("qdiffusion",), raw=raw)

    return make


def run(folder: Path, wanted: Experiment) -> CellRecord:
    ctx = context(folder / "cache", wanted)
    record = run_cell(ctx, cell_of(ctx, "qdiffusion"))
    assert (record.status, record.reason) == ("ok", "")
    return record


def test_the_calibration_sampler(tmp_path, made):
    wanted = made("sampler", 'methods.qdiffusion.sampler={use="early-steps", share=0.6}', "calibration.samples=20")
    ctx = context(tmp_path / "cache", wanted)
    found, _ = calibration_set(ctx, Costs(), cell_of(ctx, "qdiffusion").method, 0)
    pairs = set(zip(found.trajectory.tolist(), found.step.tolist(), strict=True))
    assert len(pairs) == 20
    assert {step for _, step in pairs} == {0, 1, 2}
    ctx = context(tmp_path / "cache", made("sampler", "methods.qdiffusion.sampler=early-steps"))
    with pytest.raises(Exception, match="early-steps has 16 pairs for 40 samples"):
        calibration_set(ctx, Costs(), cell_of(ctx, "qdiffusion").method, 0)


def test_the_metric(tmp_path, made):
    number = run(tmp_path, made("metric", 'evaluation.metrics=["pixel-error", "image-error"]')).metrics["mae@fp"]
    assert 0 < number.low < number.value < number.high < 1
    assert (number.n, number.better, len(number.replicates)) == (8, "lower", 8)
    assert sum(number.replicates) / 8 == pytest.approx(number.value)


def test_the_loss_term(tmp_path, made):
    learned = {
        loss: run(tmp_path, made("loss", f"methods.qdiffusion.losses=['{loss}']", "methods.qdiffusion.weighter=gacq"))
        for loss in ("smooth-error", "output")
    }
    assert learned["smooth-error"].state_hash != learned["output"].state_hash


def test_the_partitioner(tmp_path, made):
    partitioner = 'methods.qdiffusion.partitioner={use="shared-input", pattern="*.time"}'
    wanted = made("partitioner", partitioner)
    run(tmp_path, wanted)
    units = [path.read_text() for path in (tmp_path / "cache").glob("reconstruct-rounding/*/units.json")]
    assert len(units) == 1
    assert units[0].count("together") == 1
    assert "down.time" not in units[0]
    assert units[0].index('"first"') < units[0].index("together") < units[0].index('"up.conv"')


def test_the_page_lists_every_role_with_its_interface_and_every_hook():
    rows = re.findall(r"(?m)^\| ([\w-]+) \| `(\w+)` \| `(\w+)` \|", PAGE)
    assert rows == [(role.name, role.interface, role.module) for role in ROLES]
    assert [hook for hook in HOOKS if f"`{hook}`" not in PAGE] == []


def test_every_link_of_the_page_leads_to_a_heading():
    headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"(?m)^#+ (.*)$", PAGE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
