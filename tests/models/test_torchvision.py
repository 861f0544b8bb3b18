"""torchvision's networks as backbones: features, strict weights, and lines that load what leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from fallow.errors import ConfigError, WeightsError
from fallow.export.backbone import save_backbone
from fallow.models import create_backbone, load_backbone

SIZE = 64


@pytest.mark.parametrize(
    ("name", "dim"), [("resnet18", 512), ("mobilenet_v3_small", 1024), ("shufflenet_v2_x0_5", 1024)]
)
def test_features_are_what_the_last_layer_is_given(name: str, dim: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.get_model(name, weights=None).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    backbone = load_backbone(f"torchvision/{name}", weights=tmp_path / "w.safetensors")
    assert (backbone.dim, backbone.default_size) == (dim, 224)
    seen: list[torch.Tensor] = []
    last = [part for part in whole.modules() if isinstance(part, torch.nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        whole(images)
        torch.testing.assert_close(backbone.module(images), seen[0])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_file(torchvision.models.get_model("resnet34", weights=None).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w\.safetensors"):
        load_backbone("torchvision/resnet18", weights=tmp_path / "w.safetensors")


def test_what_leaves_loads_by_the_lines_of_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = create_backbone("torchvision/shufflenet_v2_x0_5", size=SIZE, seed=1)
    save_backbone(tmp_path / "model", backbone, card="# A network", cache=tmp_path / "cache")
    card = (tmp_path / "model" / "README.md").read_text()
    lines = card.split("```python")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "model")
    names: dict[str, torch.nn.Module] = {}
    exec(lines, names)
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(names["network"].eval()(images), backbone.module(images))
    again = load_backbone(str(tmp_path / "model"))
    assert again.architecture == "torchvision/shufflenet_v2_x0_5"
    assert again.weights_id == backbone.weights_id


def test_names_that_are_none_are_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="resnet18"):
        load_backbone("torchvision/resnet81")
    with pytest.raises(ConfigError, match="does not end in a linear layer"):
        create_backbone("torchvision/squeezenet1_1", size=SIZE)


def test_without_network_the_sentence_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match="--weights FILE"):
        load_backbone("torchvision/shufflenet_v2_x0_5", offline=True)
