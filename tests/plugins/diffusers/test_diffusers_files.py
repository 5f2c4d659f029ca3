"""Fingerprints, reference images, and everything that is refused."""

import os
import shutil
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from ptqbench import digest
from ptqbench.errors import UserError
from ptqbench_diffusers import DiffusersOptions, hub

CPU = torch.device("cpu")
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    # The clock of some file systems is too coarse for two writes in a row.
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_the_fingerprint_follows_bytes_and_not_places(latent, source, tmp_path):
    path = latent()
    before = source(path).fingerprint()
    copy = shutil.copytree(path, tmp_path / "elsewhere")
    (copy / "README.md").write_text("no part of the model")
    assert source(copy).fingerprint() == before
    for name in (WEIGHTS, "vqvae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"):
        flip_byte(copy / name) if name.endswith("safetensors") else (copy / name).write_text("{}")
        after = source(copy).fingerprint()
        assert after != before
        before = after


def test_options_that_change_images_are_part_of_the_fingerprint(latent, pixel, source, tmp_path):
    """Numbers with other class labels or another latent scale must not look as if they were measured alike."""
    path = latent()
    assert len({source(path, latent_scale=scale).fingerprint() for scale in (None, 0.5, 1.0)}) == 3
    path = pixel(num_class_embeds=3)
    assert len({source(path, labels=labels).fingerprint() for labels in ("balanced", 0, 1)}) == 3


def test_the_fingerprint_reads_files_once(pixel, source):
    path = pixel()
    source(path).fingerprint()
    misses = digest._sha256.cache_info().misses
    source(path).fingerprint()
    assert digest._sha256.cache_info().misses == misses


def picture(path, size=(8, 8), mode="RGB", value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)


def test_reference_images_come_from_a_folder(pixel, source, tmp_path):
    picture(tmp_path / "real" / "b" / "2.png", value=2)
    picture(tmp_path / "real" / "a" / "9.PNG", value=9)
    (tmp_path / "real" / "notes.txt").write_text("none")
    path = pixel()
    made = source(path, reference=str(tmp_path / "real"))
    images = made.reference_images()
    assert (images.dtype, images.shape) == (torch.uint8, (2, 3, 8, 8))
    assert images[:, 0, 0, 0].tolist() == [9, 2]
    assert made.reference_images() is images
    with_images = made.fingerprint()
    assert with_images != source(path).fingerprint()
    picture(tmp_path / "real" / "c.png")
    assert source(path, reference=str(tmp_path / "real")).fingerprint() != with_images


def test_there_need_not_be_reference_images(pixel, source):
    assert source(pixel()).reference_images() is None


def test_reference_images_come_from_an_archive(latent, source, tmp_path):
    images = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)
    np.savez(tmp_path / "real.npz", images)
    found = source(latent(), reference=str(tmp_path / "real.npz")).reference_images()
    assert torch.equal(found, torch.from_numpy(images).permute(0, 3, 1, 2))


def test_gray_models_take_gray_images(pixel, source, tmp_path):
    picture(tmp_path / "real" / "1.png", mode="L")
    path = pixel(in_channels=1, out_channels=1)
    assert source(path, reference=str(tmp_path / "real")).reference_images().shape == (1, 1, 8, 8)


def write_reference(folder, kind):
    if kind == "absent":
        return
    folder.mkdir()
    archive = folder / "real.npz"
    if kind == "size":
        picture(folder / "1.png", size=(9, 8))
    elif kind == "gray":
        picture(folder / "1.png", mode="L")
    elif kind == "broken":
        (folder / "1.png").write_bytes(b"no picture")
    elif kind == "name":
        np.savez(archive, images=np.zeros((1, 8, 8, 3), np.uint8))
    elif kind == "shape":
        np.savez(archive, np.zeros((1, 3, 8, 8), np.uint8))
    elif kind == "pickle":
        np.savez(archive, np.array([{}], dtype=object))
    elif kind == "no archive":
        archive.write_bytes(b"no archive")


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("absent", "", "there is no folder"),
        ("empty", "", "no png files"),
        ("size", "", "is 9x8 RGB, the model gives 8x8 RGB"),
        ("gray", "", "is 8x8 L, the model gives 8x8 RGB"),
        ("broken", "", "cannot read"),
        ("name", "/real.npz", "has no arr_0; it holds images"),
        ("shape", "/real.npz", "the model gives"),
        ("pickle", "/real.npz", "cannot read"),
        ("no archive", "/real.npz", "cannot read"),
    ],
)
def test_unusable_reference_images_are_refused(pixel, source, tmp_path, kind, name, said):
    write_reference(tmp_path / "real", kind)
    with pytest.raises(UserError, match=said) as caught:
        source(pixel(), reference=f"{tmp_path / 'real'}{name}").reference_images()
    assert caught.value.hint


def spoil(path, what, edit):
    unet, scheduler = path / "unet", path / "scheduler" / "scheduler_config.json"
    if what == "no index":
        (path / "model_index.json").unlink()
    elif what == "index":
        (path / "model_index.json").write_text("[1]")
    elif what == "json":
        (unet / "config.json").write_text("{")
    elif what == "class":
        edit(path / "model_index.json", _class_name="KandinskyPipeline")
    elif what == "network":
        edit(unet / "config.json", _class_name="UNet1DModel")
    elif what == "no unet":
        unet.rename(path / "ema")
    elif what == "no scheduler":
        scheduler.unlink()
    elif what == "no weights":
        (path / WEIGHTS).unlink()
    elif what == "pickle":
        (path / WEIGHTS).rename(unet / "diffusion_pytorch_model.bin")
    elif what == "truncated":
        (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-100])
    elif what == "tensor":
        save_file(dict(list(load_file(path / WEIGHTS).items())[1:]), path / WEIGHTS)
    elif what == "width":
        edit(unet / "config.json", block_out_channels=[16, 16])
    elif what == "size":
        edit(unet / "config.json", sample_size=None)
    elif what == "channels":
        edit(unet / "config.json", out_channels=4)
    elif what == "flow":
        edit(scheduler, _class_name="FlowMatchEulerDiscreteScheduler")
    elif what == "unknown scheduler":
        edit(scheduler, _class_name="os")
    elif what == "prediction":
        edit(scheduler, prediction_type="flow_prediction")
    elif what == "zero snr":
        edit(scheduler, rescale_betas_zero_snr=True)
    elif what == "law":
        edit(scheduler, beta_schedule="cubic")
    elif what == "beta":
        edit(scheduler, beta_end=1.5)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no index", "is not a saved pipeline"),
        ("index", "does not hold a JSON object"),
        ("json", "not valid JSON"),
        ("class", "holds a KandinskyPipeline, which is not supported"),
        ("network", "describes UNet1DModel"),
        ("no unet", r"(?s)has no unet/config.json.*subfolders there: ema"),
        ("no scheduler", "has no scheduler/scheduler_config.json"),
        ("no weights", "has no diffusion_pytorch_model.safetensors"),
        ("pickle", r"(?s)pickle files only.*use_safetensors=False"),
        ("truncated", "cannot load UNet2DModel"),
        ("tensor", "lacks 1 of its network's tensors, first"),
        ("width", "cannot load UNet2DModel"),
        ("size", "size of images is unknown"),
        ("channels", "do not make a denoiser"),
        ("flow", "no discrete noise schedule"),
        ("unknown scheduler", "no discrete noise schedule"),
        ("prediction", "'flow_prediction' is not supported"),
        ("zero snr", "leaves no signal"),
        ("law", "unknown beta_schedule 'cubic'"),
        ("beta", "between 0 and 1"),
    ],
)
def test_unusable_pipelines_are_refused(pixel, source, edit, what, said):
    path = pixel()
    spoil(path, what, edit)
    with pytest.raises(UserError, match=said) as caught:
        source(path).load(CPU)
    assert caught.value.hint
    assert len(str(caught.value)) < 900


def test_an_autoencoder_must_state_its_scale_and_fit(latent, source, edit):
    path = latent()
    edit(path / "vqvae" / "config.json", scaling_factor=None)
    with pytest.raises(UserError, match=r"(?s)does not state a scaling_factor.*model\.latent_scale"):
        source(path).load(CPU)
    edit(path / "vqvae" / "config.json", scaling_factor=1.0, latent_channels=4)
    with pytest.raises(UserError, match="the autoencoder reads 4 channels, the denoiser has 3"):
        source(path).load(CPU)


@pytest.mark.parametrize(
    ("unet", "labels", "said"),
    [
        ({}, 1, "has no classes"),
        ({"num_class_embeds": 3}, 3, "class 3 is not one of the model's 3"),
        ({"class_embed_type": "timestep"}, "balanced", "does not state how many classes"),
        ({"class_embed_type": "identity"}, "balanced", "'identity' is not supported"),
    ],
)
def test_labels_must_fit_the_model(pixel, source, unet, labels, said):
    with pytest.raises(UserError, match=said):
        source(pixel(**unet), labels=labels).load(CPU)


def test_options_are_checked():
    for wrong in ({}, {"path": ""}, {"path": "x", "dtype": "float8"}, {"path": "x", "labels": -1}):
        with pytest.raises(ValidationError):
            DiffusersOptions(**wrong)


@pytest.fixture
def fake_hub(monkeypatch):
    """Replaces the hub: `answer` is a function of local_only that a test sets, `calls` lists what was asked."""
    fake = SimpleNamespace(calls=[], answer=None)

    def snapshot_download(hub_id, *, local_files_only, **_):
        fake.calls.append(local_files_only)
        return fake.answer(local_files_only)

    hub._snapshot.cache_clear()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    yield fake
    hub._snapshot.cache_clear()


def test_a_hub_id_becomes_its_local_snapshot(fake_hub, pixel, source):
    path = pixel()
    fake_hub.answer = lambda local_only: str(path)
    assert source("someone/some-ddpm").fingerprint() == source(path).fingerprint()
    assert source("someone/some-ddpm").load(CPU).shape == (3, 8, 8)
    assert fake_hub.calls == [True]


def test_an_incomplete_snapshot_is_completed(fake_hub, pixel, source, tmp_path):
    path = pixel()
    fake_hub.answer = lambda local_only: str(tmp_path if local_only else path)
    assert source("someone/some-ddpm").load(CPU).shape == (3, 8, 8)
    assert fake_hub.calls == [True, False]


def test_an_unreachable_hub_is_explained(fake_hub, source):
    def answer(local_only):
        raise LocalEntryNotFoundError("no connection\nand a long story")

    fake_hub.answer = answer
    with pytest.raises(UserError, match=r"(?s)no connection\n  without a network, run `hf download a/b`"):
        source("a/b").fingerprint()


def test_paths_that_are_nothing_are_explained(pixel, source, tmp_path):
    with pytest.raises(UserError, match=r"model\.path: there is no folder"):
        source(tmp_path / "nothing").load(CPU)
    with pytest.raises(UserError, match="has no revisions"):
        source(pixel(), revision="main").load(CPU)


def test_a_typo_beside_the_recipe_asks_no_network(fake_hub, pixel, source, tmp_path, monkeypatch):
    """A name with a slash whose first part is a folder was meant to be in it."""

    def answer(local_only):
        pytest.fail("the hub was asked")

    fake_hub.answer = answer
    saved = pixel()
    monkeypatch.chdir(saved.parent.parent)
    with pytest.raises(UserError, match=r"there is no folder") as caught:
        source(f"{saved.parent.name}/{saved.name}x").fingerprint()
    assert f"{saved.name}" in caught.value.hint


def test_weights_of_another_precision_alone_are_named(pixel, source):
    path = pixel()
    (path / WEIGHTS).rename(path / "unet/diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.fp16\.safetensors") as caught:
        source(path).fingerprint()
    assert "variant='fp16'" in caught.value.hint
