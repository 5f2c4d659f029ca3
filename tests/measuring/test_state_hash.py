"""The hash of codes and grids: equal for equal states, another for any change in them."""

import pytest
from enginekit import cell_of, context, experiment, quantized, run_cell

from ptqbench.measuring.state_hash import state_hash

PLAIN = ("model.network=plain", "sampling.images=8")


def made(cache):
    return context(cache, experiment(*PLAIN, methods=("nearest", "qdiffusion")))


def test_a_second_computation_and_a_restored_one_have_the_same_hash(tmp_path):
    hashes = []
    for cache in ("one", "one", "two"):
        ctx = made(tmp_path / cache)
        hashes.append(state_hash(quantized(ctx, cell_of(ctx, "qdiffusion"))[0]))
    assert len(set(hashes)) == 1
    record = run_cell(ctx, cell_of(ctx, "qdiffusion"))
    assert record.state_hash == hashes[0]
    assert run_cell(ctx, ctx.experiment.cells[0]).state_hash == ""


@pytest.mark.parametrize("key", ["codes", "w.0.scale", "a.0.zero_point"])
def test_any_change_gives_another(cache, key):
    ctx = made(cache)
    q, _ = quantized(ctx, cell_of(ctx, "qdiffusion"))
    before = state_hash(q)
    name, tensor = next((name, tensor) for name, tensor in q.export().items() if name.endswith(key))
    changed = tensor.clone()
    changed.view(-1)[-1] += 1e-6 if key.endswith("scale") else 1
    layer = {other: value for other, value in q.export().items() if other.partition("|")[0] == name.partition("|")[0]}
    q.restore(layer | {name: changed})
    assert state_hash(q) != before
