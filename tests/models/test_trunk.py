"""What stands still of a network is run apart from what learns, and together they are the network."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from fallow.errors import RunError
from fallow.models import (
    Network,
    TailNetwork,
    Trainable,
    create_backbone,
    find_cut,
    from_backbone,
    from_module,
    make_engine,
    to_backbone,
    trunk_backbone,
)
from fallow.models.trunk import Trunk
from tests.networks import tiny_backbone


def made(name: str, size: int, trainable: Trainable = "last") -> Network:
    backbone = tiny_backbone() if name == "tiny" else create_backbone(name, size=size, seed=1)
    head = nn.Linear(backbone.dim, 3)
    network = from_backbone(backbone, head, size, trainable=trainable)
    for part in network.modules():  # statistics that differ from those of fresh layers
        if isinstance(part, nn.BatchNorm2d):
            part.get_buffer("running_mean").uniform_(-0.5, 0.5)
            part.get_buffer("running_var").uniform_(0.5, 2)
    return network


def pixels(count: int, size: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def maps_of(network: Network, images: torch.Tensor) -> torch.Tensor:
    cut = find_cut(network)
    planes = images.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return Trunk(network.module, cut.unit).eval()(planes * network.scale + network.shift)


NETWORKS = [
    ("test_efficientnet", 32, "blocks.2"),
    ("test_resnet", 32, "layer3"),
    ("test_convnext", 64, "stages.2"),
    ("test_vit", 160, "blocks.3"),
    ("mobilenetv3_small_050", 32, "blocks.3"),
    ("densenet121", 32, "features.denseblock3"),
    ("tiny", 32, "module.stem"),
]


@pytest.mark.parametrize(("name", "size", "unit"), NETWORKS)
@pytest.mark.parametrize("trainable", ["last", "head"])
def test_the_tail_of_the_trunk_is_the_network(name: str, size: int, unit: str, trainable: Trainable) -> None:
    network = made(name, size, trainable)
    cut = find_cut(network)
    assert cut.unit == (unit if trainable == "last" else "")
    tail = copy.deepcopy(TailNetwork(network, cut))  # as the moving average copies it
    images = pixels(4, size)
    maps = maps_of(network, images)
    assert maps.shape[1:] == cut.shape
    with torch.no_grad():
        expected = network.eval()(images.permute(0, 3, 1, 2))
        torch.testing.assert_close(tail.eval()(maps), expected, atol=1e-5, rtol=1e-4)
    learns = {n for n, p in network.named_parameters() if p.requires_grad}
    assert {n for n, p in tail.named_parameters() if p.requires_grad} == learns
    count = [sum(p.numel() for p in one.parameters()) for one in (tail, network)]
    assert count[0] < count[1]


@pytest.mark.parametrize(("name", "size"), [("test_efficientnet", 32), ("test_vit", 160)])
def test_the_trunk_as_a_graph_gives_what_torch_gives(name: str, size: int, tmp_path: Path) -> None:
    network = made(name, size)
    cut = find_cut(network)
    engine = make_engine(trunk_backbone(network, cut), size, tmp_path, "cpu")
    assert engine.name.startswith("onnx")
    images = pixels(engine.batch, size)
    found = torch.from_numpy(engine.run(images.numpy()))
    torch.testing.assert_close(found, maps_of(network, images), atol=1e-4, rtol=1e-4)


def test_training_on_maps_is_training_on_images_and_goes_back_into_the_whole_network() -> None:
    network = made("test_efficientnet", 32)
    images, target = pixels(8, 32), torch.arange(8) % 3
    tail = TailNetwork(copy.deepcopy(network), find_cut(network))
    before = copy.deepcopy(network.module.state_dict())
    for learner, seen in ((network, images.permute(0, 3, 1, 2)), (tail, maps_of(network, images))):
        learner.train()
        optimizer = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            loss = nn.functional.cross_entropy(learner(seen), target)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    one, other = to_backbone(network, "a/net"), to_backbone(tail, "b/net")
    learned = {k for k in before if k.startswith(network.parts)}
    for key, tensor in other.module.state_dict().items():
        torch.testing.assert_close(tensor, one.module.state_dict()[key], atol=1e-4, rtol=1e-3)
        if key not in learned:
            assert torch.equal(tensor, before[key]), key
    assert any(not torch.equal(other.module.state_dict()[k], before[k]) for k in learned)


class Skips(nn.Module):
    """Its last part sees more than the part before it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 1) for i in range(3))
        self.last = nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.blocks[0](x)
        last = self.blocks[2](self.blocks[1](first))
        found: torch.Tensor = self.last(last.mean((2, 3)) + first.mean((2, 3)))
        return found


def test_networks_that_cannot_be_cut_are_told_apart() -> None:
    with pytest.raises(RunError, match="all of the network learns"):
        find_cut(made("test_efficientnet", 32, "all"))
    backbone = from_module(Skips(), size=16, name="skips")
    with pytest.raises(RunError, match="depends on more than its output"):
        find_cut(from_backbone(backbone, nn.Linear(8, 3), 16, trainable="last"))


def test_trunks_with_the_same_weights_have_the_same_name_and_others_another() -> None:
    network = made("test_efficientnet", 32)
    known = find_cut(network).trunk_id
    with torch.no_grad():
        network.module.get_submodule("blocks.4").get_parameter("0.conv_pw.weight").add_(1)
    assert find_cut(network).trunk_id == known
    with torch.no_grad():
        network.module.get_parameter("conv_stem.weight").add_(1)
    assert find_cut(network).trunk_id != known
