"""Where weights are looked for, and which files are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from ptqbench.errors import UserError
from ptqbench_inception import InceptionOptions
from ptqbench_inception.features import InceptionFeatures
from ptqbench_inception.weights import FILE, OFFICIAL, check_weights, find_weights

CPU = torch.device("cpu")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of torch."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints" / FILE


def test_absent_weights_are_explained(hub: Path) -> None:
    with pytest.raises(UserError, match="nothing is downloaded on its own") as caught:
        InceptionFeatures(InceptionOptions()).fingerprint()
    for word in ("https://", "95628359 bytes", str(hub), 'use = "inception"'):
        assert word in caught.value.hint
    with pytest.raises(UserError, match="no file of Inception weights"):
        find_weights(str(hub.parent / "other.pth"))


def test_the_hub_cache_is_where_they_are_found(hub: Path) -> None:
    hub.write_bytes(b"x")
    assert find_weights("") == hub


def test_a_truncated_file_is_refused(hub: Path) -> None:
    hub.write_bytes(b"half of it")
    with pytest.raises(UserError, match="10 bytes instead of 95628359, which looks like a broken download") as caught:
        InceptionFeatures(InceptionOptions()).prepare(CPU)
    assert "anew" in caught.value.hint


def test_another_file_needs_its_hash_and_is_not_the_published_network(weights: Path, options: InceptionOptions) -> None:
    with pytest.raises(UserError, match="not the file of weights that published numbers rest on") as caught:
        InceptionFeatures(InceptionOptions(weights=str(weights))).prepare(CPU)
    assert f'sha256 = "{options.sha256}"' in caught.value.hint
    accepted = InceptionFeatures(options)
    assert not accepted.inception
    assert len(accepted.fingerprint()) == 64
    assert InceptionFeatures(InceptionOptions()).inception
    assert InceptionFeatures(InceptionOptions(sha256=OFFICIAL)).inception


def test_a_hash_that_does_not_fit_is_refused(weights: Path) -> None:
    with pytest.raises(UserError, match="the option sha256 says"):
        InceptionFeatures(InceptionOptions(weights=str(weights), sha256="0" * 64)).fingerprint()
    with pytest.raises(ValidationError):
        InceptionOptions(sha256="6726825d")


def test_other_weights_give_another_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for content in (b"one", b"two"):
        path = tmp_path / content.decode()
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        assert check_weights(path, digest) == digest
        prints.add(InceptionFeatures(InceptionOptions(weights=str(path), sha256=digest)).fingerprint())
    assert len(prints) == 2


@pytest.mark.parametrize("kind", ["no checkpoint", "pickled code", "other tensors", "a list"])
def test_files_that_are_no_weights_of_this_network_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.pth"
    if kind == "no checkpoint":
        path.write_bytes(b"no checkpoint")
    else:
        tensor = torch.zeros(2)
        made = {"pickled code": {"a": pytest.raises}, "other tensors": {"a": tensor}, "a list": [tensor]}
        torch.save(made[kind], path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"cannot be read as weights|holds no weights|does not fit"):
        InceptionFeatures(InceptionOptions(weights=str(path), sha256=digest)).prepare(CPU)
