"""LPIPS, CLIP score and DINOv2 features, on small random networks, against their packages called by hand."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path

import perceptualkit
import pytest
import torch
from metrickit import evidence_of

from ptqbench.errors import UserError
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.evidence import Evidence
from ptqbench.plugin.component import Bound
from ptqbench_diffusers.random_text import PROMPTS
from ptqbench_dinov2 import DinoOptions
from ptqbench_dinov2.features import DinoFeatures, to_input
from ptqbench_metrics import ptqbench_components
from ptqbench_metrics.clip import ClipScore
from ptqbench_metrics.lpips import Lpips
from ptqbench_metrics.options import ClipOptions, LpipsOptions

lpips = pytest.importorskip("lpips")
transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")


def pictures(seed: int, side: int = 64, count: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def pairs(ours: torch.Tensor, theirs: torch.Tensor) -> Evidence:
    plain = evidence_of(pool=torch.zeros(2, 1))
    return dataclasses.replace(plain, images=Chunks.of(ours, 2), full_precision=Chunks.of(theirs, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def squeeze(folder) -> Lpips:
    return Lpips(LpipsOptions(**perceptualkit.options_of("lpips", folder)))


@torch.no_grad()
def test_lpips_is_the_package_s_on_torchvision_s_weights(squeeze, folder):
    from torchvision.models import squeezenet1_1

    ours, theirs = pictures(0), pictures(1)
    backbone = squeezenet1_1()
    backbone.load_state_dict(torch.load(folder / "squeeze.pth", weights_only=True))
    network = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    x, y = (network.scaling_layer(images.float() / 127.5 - 1) for images in (ours, theirs))
    total, taken = torch.zeros(5), {1, 4, 7, 9, 10, 11, 12}
    for i, layer in enumerate(backbone.features):
        x, y = layer(x), layer(y)
        if i in taken:
            a, b = (z / (z.square().sum(1, keepdim=True).sqrt() + 1e-10) for z in (x, y))
            lin = network.lins[sorted(taken).index(i)].model[-1].weight.flatten()
            total += ((a - b).square() * lin[:, None, None]).sum(1).mean(dim=(1, 2))
    found = squeeze.compute(pairs(ours, theirs))["lpips-squeeze@fp"]
    assert found.value == pytest.approx(float(total.mean()), rel=1e-4)
    assert found.n == 5
    assert squeeze.compute(pairs(ours, ours))["lpips-squeeze@fp"].value == 0.0


def test_small_images_are_enlarged_and_gray_ones_coloured(squeeze):
    assert squeeze.compute(pairs(pictures(0, 16)[:, :1], pictures(1, 16)[:, :1]))["lpips-squeeze@fp"].value > 0


def test_files_count_by_content_and_not_by_place(squeeze, folder, tmp_path):
    copy = tmp_path / "other.pth"
    copy.write_bytes((folder / "squeeze.pth").read_bytes())
    other = Lpips(LpipsOptions(network="squeeze", weights=str(copy)))
    assert other.fingerprint() == squeeze.fingerprint()
    component = next(c for c in ptqbench_components() if c.name == "lpips")
    assert Bound(component, other.options, "metrics", "").key == Bound(component, squeeze.options, "metrics", "").key
    copy.write_bytes(copy.read_bytes() + b"0")
    assert other.fingerprint() != squeeze.fingerprint()
    with pytest.raises(UserError, match="cannot read"):
        Lpips(LpipsOptions(network="squeeze", weights=str(tmp_path / "none.pth"))).fingerprint()
    with pytest.raises(UserError, match="cannot be read as weights of torchvision's alex"):
        Lpips(LpipsOptions(network="alex", weights=str(folder / "squeeze.pth"))).compute(pairs(pictures(0), pictures(1)))


@torch.no_grad()
def test_the_clip_score_is_a_hundred_cosines(folder):
    options = perceptualkit.options_of("clip-score", folder)
    metric, images = ClipScore(ClipOptions(**options)), pictures(0, 32, count=10)
    prompts = PROMPTS[:4]
    found = metric.compute(dataclasses.replace(pairs(images, images), prompts=prompts))["clip-score"]
    network = transformers.CLIPModel.from_pretrained(options["model"]).eval()
    processor = transformers.CLIPProcessor.from_pretrained(options["model"])
    inputs = processor(text=list(prompts), images=list(images), return_tensors="pt", padding=True, truncation=True)
    out = network(**inputs)
    cosines = out.logits_per_image / network.logit_scale.exp()
    expected = [100 * max(0.0, float(cosines[i, i % len(prompts)])) for i in range(10)]
    assert found.value == pytest.approx(sum(expected) / 10, abs=1e-3)


def test_another_version_of_the_package_has_another_fingerprint(squeeze, tmp_path, monkeypatch):
    made = {
        "transformers": [
            ClipScore(ClipOptions(**perceptualkit.options_of("clip-score", tmp_path))),
            DinoFeatures(DinoOptions(**perceptualkit.options_of("dinov2", tmp_path))),
        ],
        "lpips": [squeeze],
    }
    version = importlib.metadata.version
    for package, those in made.items():
        before = [one.fingerprint() for one in those]
        with monkeypatch.context() as patch:
            patch.setattr(importlib.metadata, "version", lambda name, it=package: "0.1" if name == it else version(name))
            assert not set(before) & {one.fingerprint() for one in those}
        assert [one.fingerprint() for one in those] == before


@torch.no_grad()
def test_dinov2_features_are_the_class_token(folder):
    options = perceptualkit.options_of("dinov2", folder)
    made = DinoFeatures(DinoOptions(**options))
    made.prepare(CPU)
    images = pictures(0, 48, count=3)
    network = transformers.Dinov2Model.from_pretrained(options["model"]).eval()
    tokens = network(to_input(images)).last_hidden_state
    found = made.extract(images)["pool"]
    torch.testing.assert_close(found, tokens[:, 0])
    torch.testing.assert_close(made.extract(images[:1])["pool"], found[:1])
    assert made.outputs() == {"pool": 24}
    with pytest.raises(UserError, match="describes no DINOv2"):
        DinoFeatures(DinoOptions(model=str(perceptualkit.clip_model(folder / "other")))).outputs()
