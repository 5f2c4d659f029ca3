"""The network's outputs against pytorch-fid's own class and against the definitions, on random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench_inception import InceptionOptions, features
from ptqbench_inception.features import InceptionFeatures
from ptqbench_inception.network import build_network
from ptqbench_inception.weights import SIZE


def images(n: int, seed: int = 0, shape: tuple[int, int, int] = (3, 32, 32)) -> Tensor:
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def found(extractor: InceptionFeatures) -> dict[str, Tensor]:
    return dict(extractor.extract(images(3)))


def test_outputs_have_the_announced_widths(extractor: InceptionFeatures, found: dict[str, Tensor]) -> None:
    assert extractor.outputs() == {"pool": 2048, "spatial": 2023, "probabilities": 1008}
    assert {name: x.shape for name, x in found.items()} == {n: (3, w) for n, w in extractor.outputs().items()}
    assert all(x.dtype == torch.float32 for x in found.values())
    assert extractor.extract(images(0))["spatial"].shape == (0, 2023)


def test_pool_equals_pytorch_fid_s(found: dict[str, Tensor], weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own class with its own resizing, fed as its script feeds it."""
    from pytorch_fid import inception

    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: torch.load(weights, weights_only=True))
    network = inception.InceptionV3([3]).eval()
    with torch.inference_mode():
        expected = network(images(3).float().div(255.0))[0][:, :, 0, 0]
    assert torch.allclose(found["pool"], expected, rtol=1e-5, atol=1e-6)
    assert found["pool"].std(dim=0).max() > 1e-3


@pytest.fixture(scope="module")
def hooked(extractor: InceptionFeatures) -> Tensor:
    """What Mixed_6d.branch1x1 gives for the three images, (3, 192, 17, 17)."""
    network, seen = extractor._network, []
    hook = network.get_submodule("Mixed_6d.branch1x1").register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    extractor.extract(images(3))
    hook.remove()
    return seen[0]


def test_spatial_features_are_sfid_s(found: dict[str, Tensor], hooked: Tensor) -> None:
    """Row (y, x) of the map holds seven channels: channels last, and only then the first seven."""
    assert hooked.shape == (3, 192, 17, 17)
    expected = [[float(hooked[i, c, y, x]) for y in range(17) for x in range(17) for c in range(7)] for i in range(3)]
    assert torch.equal(found["spatial"], torch.tensor(expected))
    assert float(found["spatial"].min()) >= 0.0  # after the activation


def test_probabilities_leave_the_bias_out(extractor: InceptionFeatures, found: dict[str, Tensor]) -> None:
    head = extractor._network.fc.weight.double()
    expected = (found["pool"].double() @ head.T).softmax(dim=1)
    assert torch.allclose(found["probabilities"].double(), expected, atol=1e-6)


def test_batches_change_no_number(
    extractor: InceptionFeatures, found: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHUNK", 2)
    again = extractor.extract(images(3))
    assert all(torch.allclose(again[name], found[name], rtol=1e-4, atol=1e-5) for name in found)


def test_grey_images_are_repeated_to_three_channels(extractor: InceptionFeatures) -> None:
    grey = images(1, 1, (1, 16, 20))
    ours, repeated = extractor.extract(grey), extractor.extract(grey.expand(-1, 3, -1, -1))
    assert all(torch.equal(ours[name], repeated[name]) for name in ours)


@pytest.mark.parametrize("given", [torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8)])
def test_other_images_are_refused(extractor: InceptionFeatures, given: Tensor) -> None:
    with pytest.raises(UserError, match=r"expect images \(N, 1 or 3, H, W\) uint8"):
        extractor.extract(given)


def test_features_need_preparing() -> None:
    with pytest.raises(RuntimeError, match="prepare"):
        InceptionFeatures(InceptionOptions()).extract(images(1))


def test_the_network_is_ready_for_the_official_file() -> None:
    network = build_network()
    assert network.fc.weight.shape == (1008, 2048)
    # The tensors alone; the file adds names and a directory.
    assert 0.99 * SIZE < sum(x.numel() * x.element_size() for x in network.state_dict().values()) < SIZE
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
