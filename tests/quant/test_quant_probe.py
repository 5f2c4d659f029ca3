"""The probe on diffusers' UNets and on a small network: which layers, in which order, and what made their inputs."""

from __future__ import annotations

import pytest
import torch
from quantkit import Factory, plan_for, skip_net
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Probe, check_weights
from ptqbench.quant.probe import QUANTIZABLE, probe_denoiser

ProbedUNet = tuple[nn.Module, Tensor, Probe]


@pytest.fixture(params=["unet", "conditional_unet"])
def probed(request: pytest.FixtureRequest) -> ProbedUNet:
    return request.getfixturevalue(request.param)


def test_every_layer_is_found(probed: ProbedUNet) -> None:
    net, _, probe = probed
    expected = {name: m for name, m in net.named_modules() if isinstance(m, QUANTIZABLE)}
    assert {layer.name for layer in probe.layers} == set(expected)
    for layer in probe.layers:
        assert layer.kind == type(expected[layer.name]).__name__
        assert layer.weight_shape == tuple(expected[layer.name].weight.shape)


def test_layers_come_in_execution_order(probed: ProbedUNet) -> None:
    names = [layer.name for layer in probed[2].layers]
    blocks = ["conv_in", "down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1", "conv_out"]
    first = [next(i for i, name in enumerate(names) if name.startswith(block)) for block in blocks]
    assert first == sorted(first)
    assert names[-1] == "conv_out"
    assert names.index("time_embedding.linear_1") < names.index("conv_in")


def test_concatenations_are_exactly_the_decoders_shortcuts(probed: ProbedUNet) -> None:
    net, _, probe = probed
    shortcuts = {name for name, _ in net.named_modules() if name.startswith("up_") and name.endswith("conv_shortcut")}
    assert shortcuts
    found = {layer.name: layer for layer in probe.layers if layer.cat}
    assert set(found) == shortcuts
    assert all(len(layer.cat) == 2 and sum(layer.cat) == layer.weight_shape[1] for layer in found.values())


def test_only_the_input_convolution_reads_the_input(probed: ProbedUNet) -> None:
    assert [layer.name for layer in probed[2].layers if layer.reads_input] == ["conv_in"]


def test_multiply_accumulates_are_for_one_sample(unet: ProbedUNet) -> None:
    conv_in = next(layer for layer in unet[2].layers if layer.name == "conv_in")
    assert conv_in.macs == 8 * 3 * 9 * 16 * 16
    time = next(layer for layer in unet[2].layers if layer.name == "time_embedding.linear_1")
    assert time.macs == time.weight_shape[0] * time.weight_shape[1]


def test_order_is_execution_not_registration() -> None:
    _, _, probe = skip_net()
    assert [layer.name for layer in probe.layers] == ["first", "down", "shortcut", "tokens", "last"]
    assert {layer.name: layer.cat for layer in probe.layers if layer.cat} == {"shortcut": (8, 4)}
    assert [layer.name for layer in probe.layers if layer.reads_input] == ["first"]


class Joins(nn.Module):
    """Concatenations along several axes, each straight into a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(4, 4)
        self.features = nn.Linear(8, 4)
        self.vector = nn.Linear(8, 4)
        self.conv = nn.Conv1d(6, 2, 1)
        self.batch = nn.Conv1d(3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        rows = x.flatten(2)
        return (
            self.tokens(torch.cat([rows, rows], 1)),
            self.features(torch.cat((rows, rows), dim=-1)),
            self.vector(torch.cat([rows[:, 0], rows[:, 1]], dim=1)),
            self.conv(torch.concat(tensors=[rows, rows], dim=-2)),
            self.batch(torch.cat([rows, rows])),
        )


def test_only_concatenations_along_channels_count() -> None:
    net, x = Joins(), torch.randn(2, 3, 2, 2)
    found = {layer.name: layer.cat for layer in probe_denoiser(net, lambda: net(x), x).layers}
    assert found == {"tokens": (), "features": (4, 4), "vector": (), "conv": (3, 3), "batch": ()}


def test_hooks_are_gone_afterwards_even_after_an_error() -> None:
    net, x, _ = skip_net()
    with pytest.raises(RuntimeError):
        probe_denoiser(net, lambda: net(x[:, :1]), x)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


class Standardized(nn.Conv2d):
    """Weight standardization (arXiv:1903.10520): computes with another weight than its own."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = (f(self.weight, dim=(1, 2, 3), keepdim=True) for f in (torch.mean, torch.var))
        return self._conv_forward(x, (self.weight - mean) / (variance + 1e-5).sqrt(), self.bias)


class Renamed(nn.Conv2d):
    """A class of its own that changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def _doubling() -> nn.Conv2d:
    found = nn.Conv2d(3, 4, 3)
    found.register_forward_pre_hook(lambda _, args: (2 * args[0],))
    return found


def _normed() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))


LAYERS = {"standardized": lambda: Standardized(3, 4, 3), "doubling": _doubling, "normed": _normed}
LAYERS |= {"plain": lambda: nn.Conv2d(3, 4, 3), "renamed": lambda: Renamed(3, 4, 3)}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_do_something_of_their_own_with_their_weight(name: str) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(LAYERS[name](), nn.Conv2d(4, 3, 1)).eval(), torch.randn(2, 3, 8, 8)
    probe = probe_denoiser(net, lambda: net(x), x)
    plain = name not in ("standardized", "doubling")
    assert [layer.plain for layer in probe.layers] == [plain, True]
    assert probe.layers[0].macs == 4 * 6 * 6 * 27
    plan = plan_for(probe)
    if plain:
        check_weights(plan, probe)
    else:
        with pytest.raises(CellFailedError, match="kind: 0\n"):
            check_weights(plan, probe)
    # Without grids they compute what they did, and without any rounding the others as well.
    float_first = plan.with_layers([plan["0"].change("a test", weight=None, activation=None)])
    check_weights(float_first, probe)
    q = QuantizedDenoiser(net, float_first, Factory(), steps=1)
    with torch.no_grad(), q.only(()):
        assert torch.equal(q.module(x), net(x))
