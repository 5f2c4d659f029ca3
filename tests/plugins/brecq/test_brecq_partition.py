"""The partitioners `blocks` and `layers`."""

from __future__ import annotations

import pytest
import torch
from quantkit import skip_net, within
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.plugin.component import NoOptions
from ptqbench.quant.plan import Probe, UnitPlan, check_units
from ptqbench.quant.probe import probe_denoiser
from ptqbench_brecq import BlocksOptions
from ptqbench_brecq.partition import Blocks, Layers

ProbedUNet = tuple[nn.Module, Tensor, Probe]
PARTITIONERS = {"blocks": Blocks(BlocksOptions()), "layers": Layers(NoOptions())}


@pytest.fixture(params=["unet", "conditional_unet"])
def probed(request: pytest.FixtureRequest) -> ProbedUNet:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", list(PARTITIONERS))
def test_units_are_disjoint_cover_all_layers_and_come_in_execution_order(name: str, probed: ProbedUNet) -> None:
    net, _, probe = probed
    units = PARTITIONERS[name].units(net, probe)
    check_units(units, probe)
    order = [layer.name for layer in probe.layers]
    assert [probe.calls.index(unit.module) for unit in units] == sorted(probe.calls.index(u.module) for u in units)
    for unit in units:
        assert list(unit.layers) == sorted(unit.layers, key=order.index)
        assert all(layer == unit.module or layer.startswith(f"{unit.module}.") for layer in unit.layers)
        net.get_submodule(unit.module)


def test_blocks_of_a_unet(unet: ProbedUNet) -> None:
    net, _, probe = unet
    units = {unit.name: unit for unit in PARTITIONERS["blocks"].units(net, probe)}
    assert units["up_blocks.0.resnets.0"].layers[-1].endswith("conv_shortcut")
    assert len(units["mid_block.attentions.0"].layers) == 4
    single = {name for name, unit in units.items() if unit.layers == (name,)}
    assert {"conv_in", "conv_out", "time_embedding.linear_1", "down_blocks.0.downsamplers.0.conv"} <= single
    assert list(units)[-1] == "conv_out"


def test_attention_inside_a_transformer_block_belongs_to_it(conditional_unet: ProbedUNet) -> None:
    net, _, probe = conditional_unet
    units = PARTITIONERS["blocks"].units(net, probe)
    names = [unit.name for unit in units]
    transformers = [name for name in names if name.rpartition(".")[0].endswith("transformer_blocks")]
    assert transformers
    assert not [name for name in names if within(name, transformers)]
    owned = next(unit for unit in units if unit.name == transformers[0]).layers
    assert {name.removeprefix(f"{transformers[0]}.").split(".")[0] for name in owned} == {"attn1", "attn2", "ff"}
    assert transformers[0].replace("transformer_blocks.0", "proj_in") in names


def test_layers_are_their_own_units() -> None:
    net, _, probe = skip_net()
    units = PARTITIONERS["layers"].units(net, probe)
    assert units == [UnitPlan(name, name, (name,)) for name in ("first", "down", "shortcut", "tokens", "last")]


class Outer(nn.Module):
    """A block that calls another, one layer of which ran before on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(3, 3, 1)
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1)), nn.Conv2d(3, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.block(self.block[2](x)))


def test_nesting_and_layers_that_run_before_their_block() -> None:
    net, x = Outer(), torch.randn(1, 3, 4, 4)
    probe = probe_denoiser(net, lambda: net(x), x)
    units = Blocks(BlocksOptions(blocks=("Sequential",))).units(net, probe)
    check_units(units, probe)
    assert [(unit.name, unit.layers) for unit in units] == [
        ("block.2", ("block.2",)),
        ("block", ("block.0", "block.1.0")),
        ("late", ("late",)),
    ]


def test_a_network_without_such_blocks_fails() -> None:
    net, _, probe = skip_net()
    with pytest.raises(CellFailedError, match="no block of the classes"):
        PARTITIONERS["blocks"].units(net, probe)


def test_block_names_come_as_a_list_from_a_recipe() -> None:
    assert BlocksOptions.model_validate({"blocks": ["A", "B"]}).blocks == ("A", "B")
