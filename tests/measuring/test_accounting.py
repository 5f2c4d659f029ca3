"""Bytes in the bit ledger of layers that share weights, compute them, or are of kinds that are never quantized."""

from __future__ import annotations

import torch
from quantkit import Factory, skip_net
from torch import Tensor, nn

from ptqbench.measuring.accounting import BitLedger, bit_ledger, float_bytes, other_bytes
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Plan
from ptqbench.quant.probe import probe_denoiser


def ledger(net: nn.Module, x: Tensor) -> BitLedger:
    """The ledger at W4A32, weights per tensor: a layer of n weights takes n / 2 bytes, and 5 of its scale and zero point."""
    probe = probe_denoiser(net, lambda: net(x), x)
    plan = Plan.uniform(probe, QuantSpec(4), None)
    q = QuantizedDenoiser(net, plan, Factory(), steps=1)
    q.find_weight_grids()
    return bit_ledger(net, probe, plan, q)


def test_layers_that_share_a_weight_have_codes_of_their_own_and_leave_nothing_else() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    net[2].weight = net[0].weight
    found = ledger(net, torch.randn(2, 6))
    assert [row["weight_bytes"] for row in found.rows] == [18 + 5, 18 + 5]
    assert found.other_bytes == 4 * (6 + 6)


class Tied(nn.Module):
    """A table of embeddings that is a layer's weight as well."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(5, 6), nn.Linear(6, 5, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + self.table(torch.tensor([1])))


def test_a_weight_that_something_else_needs_too_stays_in_floating_point_beside_its_codes() -> None:
    assert ledger(Tied(), torch.randn(2, 6)).other_bytes == 4 * 5 * 6


def test_a_shared_weight_that_stays_in_floating_point_is_counted_once() -> None:
    net, x = Tied(), torch.randn(2, 6)
    probe = probe_denoiser(net, lambda: net(x), x)
    plan = Plan.uniform(probe, None, QuantSpec(8))
    rows = [row | {"weight_bytes": 4 * 30} for row in plan.ledger(probe)]
    assert [row["weight"] for row in rows] == [None]
    assert other_bytes(net, rows) == 0


def test_a_weight_that_is_computed_leaves_what_it_is_computed_from_beyond_its_own_size() -> None:
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4, bias=False)))
    assert ledger(net, torch.randn(2, 6)).other_bytes == 4 * 4


def test_a_layer_at_two_places_is_counted_once() -> None:
    layer = nn.Linear(6, 6)
    found = ledger(nn.Sequential(layer, nn.ReLU(), layer), torch.randn(2, 6))
    assert (len(found.rows), found.rows[0]["macs"], found.other_bytes) == (1, 2 * 36, 4 * 6)


def test_layers_of_kinds_that_are_never_quantized_stand_in_the_ledger_in_floating_point() -> None:
    net, x, _ = skip_net()
    found = ledger(net, x)
    rows = {row["name"]: row for row in found.rows}
    up = rows["up"]
    assert (up["kind"], up["weight"], up["activation"], up["weights"]) == ("ConvTranspose2d", None, None, 8 * 8 * 4)
    assert up["weight_bytes"] == 4 * 8 * 8 * 4 and "no layer of this kind is quantized" in up["why"][0]
    assert rows["unused"]["why"] == ["never called in a forward pass"]
    weights = sum(row["weights"] for row in found.rows)
    assert found.other_bytes == float_bytes(net) - 4 * weights
    floats = up["weights"] + rows["unused"]["weights"]
    assert found.summary["average weight bits"] == (4 * (weights - floats) + 32 * floats) / weights


class Torchs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.out = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(x, x, x)[0])


def test_both_weights_of_torchs_attention_are_named() -> None:
    rows = {row["name"]: row for row in ledger(Torchs(), torch.randn(2, 5, 4)).rows if row["weights"]}
    assert {name: row["weights"] for name, row in rows.items()} == {"out": 16, "attend": 48, "attend.out_proj": 16}
    assert "MultiheadAttention reads its weight" in rows["attend.out_proj"]["why"][0]
