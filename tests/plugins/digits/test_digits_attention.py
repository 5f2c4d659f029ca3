"""Attention in the embedded denoiser: where it is, and that its products go to grids."""

from __future__ import annotations

import torch
from quantkit import Factory, plan_for

from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import AttentionProbe
from ptqbench.quant.probe import probe_denoiser
from ptqbench_digits import DigitsOptions
from ptqbench_digits.source import DigitsSource

NAMES = ["down_blocks.1.attentions.0", "mid_block.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"]


def test_the_four_attentions_are_sites() -> None:
    model = DigitsSource(DigitsOptions()).load(torch.device("cpu"))
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([5, 400, 900])
    probe = probe_denoiser(model.denoiser, lambda: model.call(model.denoiser, x, t, {}), x)
    # 64 channels in heads of 16; 8 x 8 pixels, but 4 x 4 in the middle.
    products = [4 * tokens**2 * 16 for tokens in (64, 16, 64, 64)]
    assert list(probe.attentions) == [AttentionProbe(n, macs, macs) for n, macs in zip(NAMES, products, strict=True)]
    assert probe.softmaxes == ()

    q = QuantizedDenoiser(model.denoiser, plan_for(probe, None, 8), Factory(), steps=1)
    with torch.no_grad():
        full = model.call(model.denoiser, x, t, {})
        with q.observing():
            model.call(q.module, x, t, {})
        q.freeze_activations()
        for name in NAMES:
            q.attentions[name].quantize_activations = True
            # Eight bits at one attention are seen, but only just.
            error = (model.call(q.module, x, t, {}) - full).abs()
            assert 0 < error.mean() < 0.01
            q.attentions[name].quantize_activations = False
        assert torch.equal(model.call(q.module, x, t, {}), model.call(model.denoiser.requires_grad_(False), x, t, {}))
