"""A backbone that leaves loads strictly into a network that nobody touched, and gives what it gave."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from fallow.errors import ConfigError, RunError, WeightsError
from fallow.export import load_bundle, save_backbone
from fallow.models import Backbone, Preprocess, create_backbone, load_backbone
from tests.networks import tiny_backbone


def _features(backbone: Backbone, image: np.ndarray) -> np.ndarray:
    size = backbone.default_size
    pixels = Preprocess(size, backbone.mean, backbone.std)(image)
    with torch.inference_mode():
        return backbone.at_size(size)(torch.from_numpy(pixels)[None])[0].numpy()


IMAGE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


@pytest.mark.parametrize("name", ["small_resnet_8", "test_vit"])
def test_what_leaves_is_read_back_the_same_and_the_snippet_of_its_card_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = create_backbone(name, size=32, seed=3)
    assert save_backbone(tmp_path / "model", backbone, card="# A card") == []
    again = load_backbone(str(tmp_path / "model"))
    assert again.weights_id == backbone.weights_id
    np.testing.assert_allclose(_features(again, IMAGE), _features(backbone, IMAGE), atol=1e-6)

    session = onnxruntime.InferenceSession(str(tmp_path / "model" / "model.onnx"))
    (features,) = session.run(None, {"image": IMAGE})
    np.testing.assert_allclose(features, _features(backbone, IMAGE), atol=2e-5)

    card = (tmp_path / "model" / "README.md").read_text()
    (code, *_) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(tmp_path / "model")
    made: dict[str, Any] = {}
    exec(code, made)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = made["network"].eval()(x)
    torch.testing.assert_close(found, backbone.at_size(32)(x), atol=1e-5, rtol=1e-5)


def test_the_tensors_of_a_users_own_network_have_the_names_of_its_own_code(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    save_backbone(tmp_path / "model", backbone, card="# Mine")
    own = backbone.module.module.state_dict()  # type: ignore[union-attr]
    left = load_file(tmp_path / "model" / "model.safetensors")
    assert left.keys() == own.keys()
    assert all(torch.equal(left[name], own[name]) for name in own)
    with pytest.raises(ConfigError, match="only its code can rebuild"):
        load_backbone(str(tmp_path / "model"))


def test_what_is_no_backbone_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no backbone"):
        load_backbone(str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="there is no folder 'runs/nothing'"):
        load_backbone("runs/nothing")
    save_backbone(tmp_path / "model", create_backbone("small_resnet_8", size=8), card="")
    with pytest.raises(RunError, match="fallow train DATA --backbone"):
        load_bundle(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    save_file({"stem.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="do not fit"):
        load_backbone(str(tmp_path / "model"))


def test_a_folder_that_is_called_like_a_model_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pixels").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_backbone("pixels").name == "pixels"
