"""Attention in the bit ledger, by hand: bytes of grids, average bits, bit operations."""

from __future__ import annotations

import torch
from quantkit import Attend, Factory
from torch import Tensor, nn

from ptqbench.measuring.accounting import BitLedger, bit_ledger
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Plan
from ptqbench.quant.probe import probe_denoiser


class Small(nn.Module):
    """A linear layer (6 to 12, 5 tokens), attention over 2 heads of 3, values of width 3."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.attend, self.gate = nn.Linear(6, 12, bias=False), Attend(), nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        q, k = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in self.layer(x).chunk(2, dim=-1))
        return self.gate(self.attend(q, k, k))


LAYER_MACS, PRODUCT_MACS = 5 * 6 * 12, 2 * 5 * 5 * 3


def ledger(steps: int = 1, **bits: int | None) -> BitLedger:
    """The ledger of the network at W4A8, with attention's sites at these bits (None is floating point)."""
    torch.manual_seed(0)
    net, x = Small(), torch.randn(2, 5, 6)
    probe = probe_denoiser(net, lambda: net(x), x)
    plan = Plan.uniform(probe, QuantSpec(4, "channel"), QuantSpec(8, steps=steps))
    specs = {site: QuantSpec(b, steps=steps) if b else None for site, b in bits.items()}
    plan = plan.with_attentions([plan.attentions[0].change("a test", **specs)])
    q = QuantizedDenoiser(net, plan, Factory(), steps=2)
    q.context.step = torch.tensor([0, 1])
    q.find_weight_grids()
    with torch.no_grad(), q.observing():
        q.module(x)
    q.freeze_activations()
    return bit_ledger(net, probe, plan, q)


def test_bit_operations_of_both_products() -> None:
    weights_and_inputs = 4 * 8 * LAYER_MACS
    assert ledger().summary["bops"] == weights_and_inputs + (8 * 8 + 8 * 8) * PRODUCT_MACS
    mixed = ledger(q=5, k=6, v=7, softmax=16).summary
    assert mixed["bops"] == weights_and_inputs + (5 * 6 + 16 * 7) * PRODUCT_MACS
    floating = ledger(q=None, k=None, v=None, softmax=None).summary
    assert floating["bops"] == weights_and_inputs + 2 * 32 * 32 * PRODUCT_MACS


def test_average_activation_bits_count_both_operands_of_a_product() -> None:
    assert ledger().summary["average activation bits"] == 8
    found = ledger(q=5, k=6, v=7, softmax=16).summary["average activation bits"]
    assert found == (8 * LAYER_MACS + (5 + 6 + 7 + 16) * PRODUCT_MACS) / (LAYER_MACS + 4 * PRODUCT_MACS)
    assert ledger().summary["average weight bits"] == 4


def test_bytes_of_the_grids() -> None:
    # A float32 scale and a zero point of as many bits as a code, for every step group.
    rows = {row.get("site"): row for row in ledger(q=None, softmax=16).rows}
    assert [rows[site]["activation_bytes"] for site in ("q", "k", "v", "softmax")] == [0, 4 + 1, 4 + 1, 4 + 2]
    grouped = {row.get("site"): row for row in ledger(steps=2, v=5).rows}
    assert [grouped[site]["activation_bytes"] for site in ("q", "v")] == [2 * 4 + 2, 2 * 4 + 2]
    weights = 4 * 6 * 12 // 8 + 12 * 4 + 12 * 4 // 8
    assert ledger(q=None, softmax=16).bytes == weights + (4 + 1) + (4 + 1) + (4 + 1) + (4 + 2)
    assert all(row["weight_bytes"] == row["weights"] == 0 for site, row in rows.items() if site)


def test_a_softmax_besides_is_noted_and_counts_for_nothing() -> None:
    row = ledger().rows[-1]
    assert (row["name"], row["site"], row["macs"], row["activation_bytes"]) == ("gate", "unseen softmax", 0, 0)


def test_the_hash_changes_with_one_site() -> None:
    hashes = {ledger().hash, ledger(v=7).hash, ledger(softmax=7).hash, ledger(q=None).hash}
    assert len(hashes) == 4
    assert ledger().hash in hashes
