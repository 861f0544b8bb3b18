"""Networks for small images: what they keep of the image, and what they are refused for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from fallow.errors import ConfigError, WeightsError
from fallow.models import backbone_from_state, create_backbone, from_backbone, load_backbone
from fallow.models.small import DropPath
from tests.networks import digits


@pytest.mark.parametrize(("side", "cells"), [(8, 2), (16, 4), (21, 3), (28, 4), (32, 4), (64, 4)])
def test_the_last_stage_of_the_small_network_sees_a_few_cells_at_every_side(side: int, cells: int) -> None:
    backbone = create_backbone("small_resnet_8", size=side)
    seen: list[tuple[int, ...]] = []
    backbone.module.get_submodule("norm").register_forward_hook(
        lambda module, inputs, output: seen.append(tuple(output.shape[2:]))
    )
    assert backbone.module(torch.rand(2, 3, side, side)).shape == (2, backbone.dim)
    assert seen == [(cells, cells)]


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    ids = [create_backbone("small_resnet_8", seed=seed).weights_id for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_small_network_learns_digits_from_scratch() -> None:
    torch.manual_seed(0)
    images, labels = digits(900)
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels)
    network = from_backbone(create_backbone("small_resnet_8", size=8), nn.Linear(32, 10), 8, dropout=0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(70):
        rows = torch.randint(0, 600, (32,), generator=generator)
        functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    network.eval()
    with torch.inference_mode():
        right = (network(x[600:]).argmax(1) == y[600:]).float().mean()
    assert right > 0.8


@pytest.mark.parametrize("name", ["small_resnet_", "small_resnet_12", "small_resnet_0", "small_resnet_1024"])
def test_widths_that_are_not_there_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'.*multiple of 8"):
        create_backbone(name)


@pytest.mark.parametrize(
    ("name", "last", "cells"),
    [("test_resnet", "layer4", 4), ("resnet10t", "layer4", 4), ("test_efficientnet", "blocks", 4)],
)
def test_a_small_stem_keeps_the_side_of_the_image(name: str, last: str, cells: int) -> None:
    backbone = create_backbone(name, size=32, small_stem=True)
    assert backbone.name == backbone.architecture == f"{name}.small_stem"
    seen: list[int] = []
    stem = backbone.module.get_submodule("conv1" if last == "layer4" else "conv_stem")
    stem.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    backbone.module.get_submodule(last).register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[-1])
    )
    backbone.module(torch.rand(1, 3, 32, 32))
    whole = create_backbone(name, size=32)
    with torch.inference_mode():
        shrunk = whole.module.forward_features(torch.rand(1, 3, 32, 32)).shape[-1]  # type: ignore[operator]
    assert seen[0] == 32
    assert seen[1] >= 2 * shrunk
    rebuilt = backbone_from_state(backbone.name, backbone.module.state_dict(), "here", size=32)
    assert rebuilt.weights_id == backbone.weights_id
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(rebuilt.module(x), backbone.module(x))


def test_a_stem_that_is_not_understood_and_nothing_to_train_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'test_convnext' has a stem that is not understood.*ResNets"):
        create_backbone("test_convnext", small_stem=True)
    with pytest.raises(ConfigError, match="'pixels' has no weights"):
        create_backbone("pixels")
    with pytest.raises(ConfigError, match="no backbone 'resnet1'"):
        create_backbone("resnet1")


def test_a_network_from_scratch_has_no_pretrained_weights_but_takes_a_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'small_resnet_8' is trained from scratch"):
        load_backbone("small_resnet_8")
    made = create_backbone("small_resnet_8", seed=3)
    save_file(made.module.state_dict(), tmp_path / "own.safetensors")
    assert load_backbone("small_resnet_8", weights=tmp_path / "own.safetensors").weights_id == made.weights_id
    save_file({"stem.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"part.safetensors.*missing"):
        load_backbone("small_resnet_8", weights=tmp_path / "part.safetensors")


def test_stochastic_depth_drops_whole_branches_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3, 3)
    y = drop(x)
    per_image = y.flatten(1)
    assert (per_image.min(1).values == per_image.max(1).values).all()
    assert set(per_image[:, 0].tolist()) == {0.0, float(np.float32(1 / 0.75))}
    assert abs(float(y.mean()) - 1) < 0.05
    assert torch.equal(drop.eval()(x), x)
