"""What the probe finds of attention: modules, products counted by hand, and softmaxes that it cannot follow."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from quantkit import Attend
from torch import Tensor, nn

from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.ledger import UNSEEN_ATTENTION
from ptqbench.quant.plan import AttentionProbe, Plan, Probe
from ptqbench.quant.probe import probe_denoiser

ProbedUNet = tuple[nn.Module, Tensor, Probe]


def test_self_attention_of_a_unet(unet: ProbedUNet) -> None:
    # 16 channels in heads of 4, on 8 x 8 pixels after one downsampling, and at the same size in the middle.
    products = 4 * 64 * 64 * 4
    names = ["down_blocks.1.attentions.0", "mid_block.attentions.0", *(f"up_blocks.0.attentions.{i}" for i in range(2))]
    assert unet[2].attentions == tuple(AttentionProbe(name, products, products) for name in names)
    assert unet[2].softmaxes == ()


def test_cross_attention_has_as_many_keys_as_the_text(conditional_unet: ProbedUNet) -> None:
    probe = conditional_unet[2]
    found = {attention.name: attention for attention in probe.attentions}
    assert all(name.rpartition(".")[2] in ("attn1", "attn2") for name in found)
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    first, second = found[f"{block}.attn1"], found[f"{block}.attn2"]
    # One sample has 8 x 8 pixels and 5 words; 8 channels.
    assert (first.score_macs, first.value_macs) == (64 * 64 * 8, 64 * 64 * 8)
    assert (second.score_macs, second.value_macs) == (64 * 5 * 8, 64 * 5 * 8)
    assert {call for call in probe.calls if call.endswith((".attn1", ".attn2"))} == set(found)


class Various(nn.Module):
    """Attention in the root, in a child, twice in another, with products of its own, and inside torch's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.twice = Attend(), Twice()
        self.plain, self.torchs = Plain(), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.scaled_dot_product_attention(x, x, x)
        x = self.once(x, x, x[..., :2], scale=2.0)
        x = self.twice(torch.cat([x, x], -1))
        return self.torchs(self.plain(x), x, x, need_weights=False)[0]


class Twice(nn.Module):
    """Two calls over different numbers of keys, the heads in one axis with the batch."""

    def forward(self, x: Tensor) -> Tensor:
        split = torch.cat([x[..., :2], x[..., 2:]])
        out = F.scaled_dot_product_attention(split, split[:, :3], split[:, :3])
        return torch.cat(F.scaled_dot_product_attention(out, out, out).chunk(2), -1)


class Plain(nn.Module):
    """Attention spelled out."""

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.mT).softmax(-1) @ x


def test_calls_belong_to_the_innermost_module_and_are_summed() -> None:
    net, x = Various().eval(), torch.randn(2, 5, 4)
    probe = probe_denoiser(net, lambda: net(x), x)
    root, once, twice = probe.attentions
    assert root == AttentionProbe("", 5 * 5 * 4, 5 * 5 * 4)
    assert once == AttentionProbe("once", 5 * 5 * 4, 5 * 5 * 2)
    assert twice == AttentionProbe("twice", 2 * (5 * 3 + 5 * 5) * 2, 2 * (5 * 3 + 5 * 5) * 2, calls=2)
    assert [twice.macs(site) for site in ("q", "k")] == [twice.score_macs] * 2
    assert [once.macs(site) for site in ("softmax", "v")] == [once.value_macs] * 2


def test_softmaxes_that_may_be_attention_are_named() -> None:
    net, x = Various().eval(), torch.randn(2, 5, 4)
    assert probe_denoiser(net, lambda: net(x), x).softmaxes == ("plain", "torchs")


@pytest.mark.parametrize(
    "softmax",
    [
        lambda x: x.softmax(-1),
        lambda x: torch.softmax(x, -1),
        lambda x: F.softmax(x, dim=-1),
        lambda x: torch.special.softmax(x, -1),
    ],
)
def test_every_spelling_of_the_softmax_is_seen(softmax) -> None:
    class Weights(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return softmax(x)

    net, x = nn.Sequential(Weights(), nn.Softmax(-1)), torch.randn(2, 3)
    assert probe_denoiser(net, lambda: net(x), x).softmaxes == ("0", "1")


def test_a_library_processor_that_spells_attention_out_is_named(unet: ProbedUNet) -> None:
    net, x, probe = unet
    plain = copy.deepcopy(net)
    for attention in probe.attentions:
        plain.get_submodule(attention.name).set_processor(AttnProcessor())
    found = probe_denoiser(plain, lambda: plain(x, torch.tensor([7, 700])), x)
    assert found.attentions == ()
    assert found.softmaxes == found.unseen == tuple(attention.name for attention in probe.attentions)
    assert probe.unseen == ()
    rows = [row for row in Plan.uniform(found, QuantSpec(4), QuantSpec(8)).ledger(found) if "site" in row]
    assert [(row["name"], row["site"]) for row in rows] == [(name, UNSEEN_ATTENTION) for name in found.unseen]
    assert found.layers == probe.layers


def test_what_runs_outside_of_the_denoiser_is_not_the_denoisers() -> None:
    net, x = Attend(), torch.randn(2, 5, 4)

    def call() -> None:
        F.scaled_dot_product_attention(x, x, x).softmax(-1)
        nn.Softmax(-1)(x)

    probe = probe_denoiser(net, call, x)
    assert (probe.attentions, probe.softmaxes) == ((), ())


def test_an_error_that_a_caller_catches_does_not_shift_the_names() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ArithmeticError

    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Fails(), Attend()

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.first(x)
            except ArithmeticError:
                return F.scaled_dot_product_attention(x, x, self.second(x, x, x))

    net, x = Tries(), torch.randn(2, 5, 4)
    assert [attention.name for attention in probe_denoiser(net, lambda: net(x), x).attentions] == ["second", ""]
