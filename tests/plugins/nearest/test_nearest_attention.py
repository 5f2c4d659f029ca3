"""The pass `attention`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError
from quantkit import plan_for, skip_net
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import SITES, Probe
from ptqbench_nearest import AttentionOptions
from ptqbench_nearest.attention import AttentionBits

ProbedUNet = tuple[nn.Module, Tensor, Probe]


def test_sixteen_bits_for_the_softmax_alone(unet: ProbedUNet) -> None:
    before = plan_for(unet[2], 4, 8, steps=3)
    after = AttentionBits(AttentionOptions(softmax=16)).apply(before, unet[2])
    assert after.layers == before.layers
    assert len(after.attentions) == len(unet[2].attentions)
    for new, old in zip(after.attentions, before.attentions, strict=True):
        assert (new.q, new.k, new.v) == (old.q, old.k, old.v)
        assert new.softmax == replace(old.softmax, bits=16)
        assert new.softmax.nonnegative and new.softmax.steps == 3
        assert new.why == (("softmax", "attention"),)


def test_floating_point_at_every_site(unet: ProbedUNet) -> None:
    options = AttentionOptions(q=32, k=32, v=32, softmax=32)
    after = AttentionBits(options).apply(plan_for(unet[2], 4, 8), unet[2])
    assert {attention.spec(site) for attention in after.attentions for site in SITES} == {None}
    assert all(attention.why == tuple((site, "attention") for site in SITES) for attention in after.attentions)


def test_floating_point_stays_and_what_is_equal_is_no_exception(unet: ProbedUNet) -> None:
    floating, equal = plan_for(unet[2], 4, None), plan_for(unet[2], 4, 8)
    change = AttentionBits(AttentionOptions(q=8, softmax=8))
    assert change.apply(floating, unet[2]) == floating
    assert change.apply(equal, unet[2]) == equal


def test_no_attention_fails_and_names_what_may_be_one() -> None:
    probe = skip_net()[2]
    change = AttentionBits(AttentionOptions(softmax=16))
    with pytest.raises(CellFailedError) as error:
        change.apply(plan_for(probe), probe)
    assert error.value.message.endswith("found no module that calls scaled_dot_product_attention")
    spelled_out = replace(probe, softmaxes=("block.attn",))
    with pytest.raises(CellFailedError, match=r"softmax in block\.attn"):
        change.apply(plan_for(spelled_out), spelled_out)


def test_options_that_change_nothing_or_are_no_bits_are_refused() -> None:
    with pytest.raises(ValidationError, match="give q, k, v or softmax other bits"):
        AttentionOptions()
    for bits in (1, 9, 31):
        with pytest.raises(ValidationError):
            AttentionOptions(softmax=bits)
