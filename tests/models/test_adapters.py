"""Low-rank adapters: they start as nothing, learn alone, and end in plain weights."""

from __future__ import annotations

import sys

import pytest
import timm
import torch
from torch import nn

from fallow.errors import ConfigError
from fallow.models import Backbone, from_backbone, from_module, to_backbone
from fallow.models.adapters import add_adapters, is_adapted, merged

pytest.importorskip("peft")
SIZE = 16


def transformer() -> Backbone:
    torch.manual_seed(0)
    module = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=SIZE, patch_size=8, depth=2, embed_dim=24, num_heads=2
    )
    return from_module(module, size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, name="tiny_vit")


def convolutions() -> Backbone:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return from_module(module, size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, name="convolutions")


def images(n: int = 4) -> torch.Tensor:
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("start", [transformer, convolutions])
def test_a_network_with_adapters_starts_as_it_was_and_only_they_learn(start) -> None:  # type: ignore[no-untyped-def]
    backbone = start()
    plain = from_backbone(backbone, nn.Identity(), SIZE, trainable="head").eval()
    network = from_backbone(backbone, nn.Linear(backbone.dim_at(SIZE), 3), SIZE, trainable="lora")
    torch.testing.assert_close(network.features(images()), plain.features(images()))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        network(images()).square().sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name or name.startswith("head.") for name in moved)
    assert any("lora_B" in name for name in moved)


@pytest.mark.parametrize("start", [transformer, convolutions])
def test_what_leaves_is_a_plain_network_that_says_the_same(start) -> None:  # type: ignore[no-untyped-def]
    backbone = start()
    network = from_backbone(backbone, nn.Identity(), SIZE, trainable="lora")
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
    network.eval()
    expected = network.features(images())
    assert not torch.allclose(
        expected, from_backbone(backbone, nn.Identity(), SIZE, trainable="head").eval().features(images())
    )
    left = to_backbone(network, "joint/tuned")
    assert list(left.module.state_dict()) == list(backbone.module.state_dict())
    assert not is_adapted(left.module)
    torch.testing.assert_close(
        left.module(images() * network.scale + network.shift), expected, atol=1e-5, rtol=1e-4
    )
    assert is_adapted(network.module)  # training may go on
    strict = start().module
    strict.load_state_dict(left.module.state_dict(), strict=True)


def test_the_same_adapters_whatever_was_drawn_before() -> None:
    one, other = transformer().module, transformer().module
    add_adapters(one)
    torch.rand(7)
    state = torch.get_rng_state()
    add_adapters(other)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_merging_leaves_the_network_alone() -> None:
    module = convolutions().module
    add_adapters(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    merged(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_network_without_such_a_layer_is_told() -> None:
    with pytest.raises(ConfigError, match="no linear layer"):
        add_adapters(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()))


class _Encoder(nn.Module):
    """Its layer reads weights itself where it is not trained, as torch's own transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 16, 8, 8)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.layer(self.cut(x).flatten(2).transpose(1, 2))
        return tokens.mean(1)


class _HalfRead(nn.Module):
    """One layer is called, of the other the weight is read."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.read = nn.Linear(3, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.called(x.mean((2, 3))).relu(), self.read.weight)


def _own(module: nn.Module) -> Backbone:
    return from_module(module, size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, name="own")


def test_adapters_that_the_forward_pass_runs_past_are_told_or_left_out() -> None:
    with pytest.raises(ConfigError, match="reads the weights"):
        from_backbone(_own(_Encoder()), nn.Identity(), SIZE, trainable="lora")
    network = from_backbone(_own(_HalfRead()), nn.Identity(), SIZE, trainable="lora")
    assert network.parts
    assert all("called" in name for name in network.parts)
    learning = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert learning
    assert all("called" in name for name in learning)


def test_a_network_with_next_to_nothing_in_such_layers_is_told() -> None:
    with pytest.raises(ConfigError, match="10% of its weights"):
        add_adapters(nn.Sequential(nn.Conv2d(3, 64, 7), nn.Flatten(), nn.Linear(64, 4)))


def test_that_the_library_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else real(name, *rest)
    )
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    with pytest.raises(ConfigError, match=r"fallow\[lora\]"):
        from_backbone(convolutions(), nn.Identity(), SIZE, trainable="lora")
