"""The partitioner `temporal-blocks` on the UNets that it knows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from quantkit import Factory, plan_for
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Probe, UnitPlan, check_units
from ptqbench.quant.probe import probe_denoiser
from ptqbench_brecq import BlocksOptions
from ptqbench_brecq.partition import Blocks
from ptqbench_tfmq import TemporalBlocksOptions
from ptqbench_tfmq.partition import TemporalBlocks

ProbedUNet = tuple[nn.Module, Tensor, Probe]
TIMESTEPS = torch.tensor([7, 700])
PARTITIONER = TemporalBlocks(TemporalBlocksOptions())
PARTS = {
    "unet": ("time_embedding", ".time_emb_proj"),
    "conditional_unet": ("time_embedding", ".time_emb_proj"),
    "ddpm": ("temb.dense.0", ".temb_proj"),
    "latent_unet": ("time_embed", ".emb_layers.1"),
}
"""By network: the module whose inputs the block takes, and how names of projections end."""


@pytest.fixture(params=list(PARTS))
def named(request: pytest.FixtureRequest) -> tuple[str, ProbedUNet]:
    return request.param, request.getfixturevalue(request.param)


def run(net: nn.Module, x: Tensor) -> Tensor:
    """The network on x (2, C, H, W) at two timesteps."""
    text = [torch.zeros(2, 5, 8)] if hasattr(net, "encoder_hid_proj") else []
    out = net(x, TIMESTEPS, *text)
    return out if isinstance(out, Tensor) else out.sample


def seen(net: nn.Module, x: Tensor, first: str, layers: list[str]) -> tuple[tuple[Any, ...], dict[str, Any], list[Tensor]]:
    """Arguments of the module `first`, and the outputs of some layers, in a forward pass of the whole network."""
    inputs: list[Any] = []
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _args, out: outputs.update({name: out})

    hooks = [net.get_submodule(first).register_forward_pre_hook(lambda _, *given: inputs.extend(given), with_kwargs=True)]
    hooks += [net.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    with torch.no_grad():
        run(net, x)
    for hook in hooks:
        hook.remove()
    args, kwargs = inputs
    return args, kwargs, [outputs[name] for name in layers]


def projections(unit: UnitPlan, ending: str) -> list[str]:
    return [name for name in unit.layers if name.endswith(ending)]


def test_units_are_disjoint_cover_all_layers_and_start_with_the_temporal_block(named: tuple[str, ProbedUNet]) -> None:
    name, (net, _, probe) = named
    units = PARTITIONER.units(net, probe)
    check_units(units, probe)
    temporal, *others = units
    assert (temporal.name, temporal.module, temporal.synthetic) == ("temporal block", PARTS[name][0], True)
    assert not any(unit.synthetic for unit in others)
    order = [probe.calls.index(unit.module) for unit in others]
    assert order == sorted(order)
    assert sorted(temporal.layers, key=[layer.name for layer in probe.layers].index) == list(temporal.layers)


def test_the_temporal_block_owns_the_time_layers_and_every_projection(named: tuple[str, ProbedUNet]) -> None:
    name, (net, _, probe) = named
    units = PARTITIONER.units(net, probe)
    ending = PARTS[name][1]
    every = [layer.name for layer in probe.layers if layer.name.endswith(ending)]
    assert len(every) >= 2
    assert projections(units[0], ending) == every
    assert len(units[0].layers) == len(every) + 2
    assert not [layer for unit in units[1:] for layer in unit.layers if layer.endswith(ending)]


def test_other_units_are_those_of_block_reconstruction_without_the_temporal_layers(named: tuple[str, ProbedUNet]) -> None:
    _, (net, _, probe) = named
    temporal, *others = PARTITIONER.units(net, probe)
    left = []
    for unit in Blocks(BlocksOptions()).units(net, probe):
        layers = tuple(layer for layer in unit.layers if layer not in temporal.layers)
        left += [UnitPlan(unit.name, unit.module, layers)] if layers else []
    assert others == left


def test_features_are_what_the_residual_blocks_receive(named: tuple[str, ProbedUNet]) -> None:
    name, (net, x, probe) = named
    unit = PARTITIONER.units(net, probe)[0]
    args, kwargs, received = seen(net, x, unit.module, projections(unit, PARTS[name][1]))
    with torch.no_grad():
        features = PARTITIONER.assemble(unit, net)(*args, **kwargs)
    assert len(features) == len(received) >= 2
    assert all(torch.equal(a, b) for a, b in zip(features, received, strict=True))
    assert not any(torch.equal(feature[0], feature[1]) for feature in features)


def test_features_do_not_depend_on_the_image(named: tuple[str, ProbedUNet]) -> None:
    _, (net, x, probe) = named
    unit = PARTITIONER.units(net, probe)[0]
    block = PARTITIONER.assemble(unit, net)
    (one, one_named, _), (other, other_named, _) = (seen(net, image, unit.module, []) for image in (x, -3 * x.flip(0)))
    with torch.no_grad():
        pairs = zip(block(*one, **one_named), block(*other, **other_named), strict=True)
        assert not torch.equal(run(net, x), run(net, -3 * x.flip(0)))
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_quantized_block_shares_the_quantized_layers(named: tuple[str, ProbedUNet]) -> None:
    name, (net, x, probe) = named
    unit = PARTITIONER.units(net, probe)[0]
    q = QuantizedDenoiser(net, plan_for(probe), Factory(), steps=1)
    q.find_weight_grids()
    block = PARTITIONER.assemble(unit, q.module)
    assert {id(q.layers[layer]) for layer in unit.layers} <= {id(module) for module in block.modules()}
    args, kwargs, received = seen(q.module, x, unit.module, projections(unit, PARTS[name][1]))
    with torch.no_grad():
        features = block(*args, **kwargs)
        original = PARTITIONER.assemble(unit, net)(*args, **kwargs)
    assert all(torch.equal(a, b) for a, b in zip(features, received, strict=True))
    assert not any(torch.allclose(a, b) for a, b in zip(features, original, strict=True))


def test_other_units_are_plain_submodules(unet: ProbedUNet) -> None:
    net, _, probe = unet
    for unit in PARTITIONER.units(net, probe)[1:]:
        assert PARTITIONER.assemble(unit, net) is net.get_submodule(unit.module)


def test_a_blocks_own_activation_is_used(unet: ProbedUNet) -> None:
    net, x, _ = copy.deepcopy(unet)
    for module in net.modules():
        if hasattr(module, "time_emb_proj"):
            module.nonlinearity = nn.GELU()
    probe = probe_denoiser(net, lambda: run(net, x), x)
    unit = PARTITIONER.units(net, probe)[0]
    args, kwargs, received = seen(net, x, unit.module, projections(unit, ".time_emb_proj"))
    with torch.no_grad():
        features = PARTITIONER.assemble(unit, net)(*args, **kwargs)
    assert all(torch.equal(a, b) for a, b in zip(features, received, strict=True))


def test_other_names_can_be_given(ddpm: ProbedUNet) -> None:
    net, _, probe = ddpm
    given = {"embedding": ["temb.dense.0", "temb.dense.1"], "projections": ["mid.?.temb_*"], "blocks": ["ResnetBlock"]}
    options = TemporalBlocksOptions.model_validate(given)
    assert TemporalBlocks(options).units(net, probe) == PARTITIONER.units(net, probe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": ("nothing",)}, "no module with layers that the option `embedding` names"),
        ({"embedding": ("temb",)}, "no module with layers that the option `embedding` names"),
        ({"projections": ("*.nothing",)}, "no layer that the option `projections` names"),
        ({"embedding": ("temb.dense.*", "mid.0")}, "`embedding` names several modules: temb.dense.0, temb.dense.1, mid.0"),
        ({"blocks": ("Nothing",)}, "no block of the classes Nothing"),
    ],
)
def test_what_matches_nothing_is_named(ddpm: ProbedUNet, options: dict[str, Any], message: str) -> None:
    net, _, probe = ddpm
    with pytest.raises(CellFailedError, match=message):
        TemporalBlocks(TemporalBlocksOptions(**options)).units(net, probe)


def test_blocks_that_leave_the_activation_out_are_refused(unet: ProbedUNet) -> None:
    net, _, probe = copy.deepcopy(unet)
    next(module for module in net.modules() if hasattr(module, "time_emb_proj")).skip_time_act = True
    with pytest.raises(CellFailedError, match="without an activation"):
        PARTITIONER.units(net, probe)
