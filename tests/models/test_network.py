"""A backbone that learns, and the frozen one that comes back."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fallow.errors import ConfigError, RunError, WeightsError
from fallow.models import (
    Backbone,
    Network,
    create_backbone,
    from_backbone,
    from_module,
    lets_gradient_through,
    network_classifier,
    rebuild_backbone,
    to_backbone,
)
from fallow.models.graph import PixelsToFeatures
from tests.networks import tiny_backbone

X = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _learn(network: Network, steps: int = 2) -> None:
    size = network.size
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.05)
    x = X.permute(0, 3, 1, 2).float() / 255
    x = nn.functional.interpolate(x, size=size) if size != 32 else x
    for _ in range(steps):
        network(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="module")
def efficientnet() -> Backbone:
    return create_backbone("test_efficientnet", size=32)


@pytest.mark.parametrize("name", ["small_resnet_8", "test_efficientnet", "tiny"])
def test_float_and_uint8_images_give_what_embedding_gives(name: str) -> None:
    backbone = tiny_backbone() if name == "tiny" else create_backbone(name, size=32, mean=(0.2, 0.3, 0.4))
    network = from_backbone(backbone, nn.Linear(backbone.dim, 3), 32)
    _learn(network)
    frozen = to_backbone(network, f"joint/{name}")
    with torch.inference_mode():
        expected = PixelsToFeatures(frozen, 32)(X)
        network.eval()
        planes = X.permute(0, 3, 1, 2)
        for images in (planes, planes.float() / 255):
            torch.testing.assert_close(network.features(images), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(network(images), network.head(expected), atol=1e-5, rtol=1e-5)
    assert (frozen.name, frozen.architecture, frozen.trained) == (f"joint/{name}", name, True)
    assert (frozen.mean, frozen.default_size) == (backbone.mean, 32)


def test_training_leaves_the_backbone_it_started_from_alone(efficientnet: Backbone) -> None:
    before = copy.deepcopy(efficientnet.module.state_dict())
    network = from_backbone(efficientnet, nn.Linear(efficientnet.dim, 3), 32)
    _learn(network)
    for key, tensor in efficientnet.module.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    assert not efficientnet.module.training
    frozen = to_backbone(network, "a/b")
    assert frozen.weights_id != efficientnet.weights_id
    kept = frozen.module(torch.ones(1, 3, 32, 32))
    _learn(network)
    assert torch.equal(frozen.module(torch.ones(1, 3, 32, 32)), kept)
    assert not any(p.requires_grad for p in frozen.module.parameters())


def test_the_last_blocks_learn_and_the_rest_with_its_batch_statistics_stands_still(
    efficientnet: Backbone,
) -> None:
    network = from_backbone(efficientnet, nn.Linear(efficientnet.dim, 3), 32, trainable="last")
    before = copy.deepcopy(network.module.state_dict())
    network.eval()
    network.train()
    _learn(network)
    moved = {key for key, t in network.module.state_dict().items() if not torch.equal(t, before[key])}
    assert network.parts == ("blocks.3", "blocks.4", "conv_head", "bn2")
    assert moved == {key for key in before if key.startswith(network.parts)}
    assert any("running_mean" in key for key in moved)
    assert len(moved) < len(before)


def test_a_network_whose_head_alone_learns_has_the_weights_it_started_with(efficientnet: Backbone) -> None:
    head = nn.Linear(efficientnet.dim, 3)
    weight = head.weight.detach().clone()
    network = from_backbone(efficientnet, head, 32, trainable="head")
    _learn(network)
    assert not torch.equal(head.weight, weight)
    assert to_backbone(network, "a/b").weights_id == efficientnet.weights_id


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("small_resnet_8", ("",)),
        ("test_resnet", ("layer4",)),
        ("test_vit", ("blocks.4", "blocks.5", "norm")),
        ("test_convnext", ("stages.3", "head")),
        ("vit_tiny_patch16_224", ("blocks.9", "blocks.10", "blocks.11", "norm")),
        ("tf_efficientnet_lite0", ("blocks.5", "blocks.6", "conv_head", "bn2")),
        ("tiny", ("module.body",)),
    ],
)
def test_which_blocks_are_the_last(name: str, parts: tuple[str, ...]) -> None:
    size = 224 if "224" in name else 160 if name == "test_vit" else 32
    backbone = tiny_backbone() if name == "tiny" else create_backbone(name, size=size)
    network = from_backbone(backbone, nn.Linear(backbone.dim, 2), size, trainable="last")
    assert network.parts == parts
    network(torch.rand(2, 3, size, size)).sum().backward()
    for key, parameter in network.module.named_parameters():
        assert (parameter.grad is not None) == key.startswith(parts), key


def test_what_the_features_of_an_own_network_do_not_need_is_left_out() -> None:
    network = from_backbone(tiny_backbone(), nn.Linear(24, 2), 32)
    learns = {key for key, p in network.module.named_parameters() if p.requires_grad}
    assert learns
    assert not any("module.head" in key for key in learns)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["small_resnet_8", "test_resnet", "efficientnet_lite0", "test_vit"])
def test_noise_is_there_in_training_only_and_does_not_stay(name: str) -> None:
    size = 160 if name == "test_vit" else 32
    backbone = create_backbone(name, size=size)
    head = nn.Identity()
    torch.manual_seed(0)
    x = torch.rand(8, 3, size, size)
    with torch.no_grad():  # untrained branches may be zero, so that nothing would be missed without them
        for parameter in backbone.module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for noise in ({"dropout": 0.5}, {"drop_path": 0.9}):
        noisy = from_backbone(backbone, head, size, **noise)
        assert not torch.equal(noisy(x), noisy(x))
        assert (noisy.branches > 0) == ("drop_path" in noise)
        noisy = from_backbone(backbone, head, size, **noise).eval()
        assert torch.equal(noisy(x), from_backbone(backbone, head, size).eval()(x))
        quiet = from_backbone(to_backbone(noisy, "a/b"), head, size)
        assert torch.equal(quiet(x), quiet(x))


def test_a_transformer_trained_at_another_size_is_rebuilt_at_that_size() -> None:
    backbone = create_backbone("test_vit", size=160)
    network = from_backbone(backbone, nn.Linear(backbone.dim, 2), 96)
    _learn(network, 1)
    frozen = to_backbone(network, "joint/test_vit")
    rebuilt = rebuild_backbone(
        frozen.name,
        frozen.module.state_dict(),
        architecture="test_vit",
        size=frozen.default_size,
        mean=frozen.mean,
        std=frozen.std,
        origin="here",
    )
    assert rebuilt.weights_id == frozen.weights_id
    x = torch.rand(2, 3, 96, 96)
    torch.testing.assert_close(rebuilt.at_size(96)(x), frozen.at_size(96)(x))


def test_rebuilding_is_strict() -> None:
    frozen = to_backbone(from_backbone(tiny_backbone(), nn.Linear(24, 2), 32), "joint/tiny")
    about = {"architecture": "tiny", "size": 32, "mean": frozen.mean, "std": frozen.std, "origin": "there"}
    state = dict(frozen.module.state_dict())
    own = tiny_backbone()
    assert rebuild_backbone("joint/tiny", state, own=own, **about).weights_id == frozen.weights_id
    with pytest.raises(ConfigError, match="no backbone 'tiny'"):
        rebuild_backbone("joint/tiny", state, **about)
    key = next(iter(state))
    with pytest.raises(WeightsError, match=f"there do not fit.*missing: {key}"):
        rebuild_backbone("joint/tiny", {k: v for k, v in state.items() if k != key}, own=own, **about)
    with pytest.raises(WeightsError, match="unexpected: more"):
        rebuild_backbone("joint/tiny", {**state, "more": torch.zeros(1)}, own=own, **about)
    with pytest.raises(WeightsError, match=f"of another shape: {key}"):
        rebuild_backbone("joint/tiny", {**state, key: torch.zeros(1)}, own=own, **about)


def test_what_cannot_be_trained_or_kept_is_said_in_a_sentence(efficientnet: Backbone) -> None:
    head = nn.Linear(efficientnet.dim, 2)
    with pytest.raises(ConfigError, match="cannot be 'most'"):
        from_backbone(efficientnet, head, 32, trainable="most")  # type: ignore[arg-type]
    assert from_backbone(tiny_backbone(), head, 32, drop_path=0.1).branches == 0
    network = from_backbone(efficientnet, head, 32)
    with pytest.raises(RunError, match="cannot be called 'test_efficientnet'"):
        to_backbone(network, "test_efficientnet")
    frozen = to_backbone(network, "a/b")
    with pytest.raises(RunError, match=r"Sequential.*no linear layer"):
        network_classifier(frozen, nn.Sequential(head), 32, ["x", "y"])
    with pytest.raises(RunError, match=r"3 inputs.*no linear layer on its"):
        network_classifier(frozen, nn.Linear(3, 2), 32, ["x", "y"])
    with torch.no_grad():
        next(network.module.parameters())[0] = float("nan")
    with pytest.raises(RunError, match=r"not finite \(conv_stem.weight\)"):
        to_backbone(network, "a/b")


def test_the_classifier_says_what_the_network_says(efficientnet: Backbone) -> None:
    network = from_backbone(efficientnet, nn.Linear(efficientnet.dim, 3), 32)
    _learn(network)
    network.eval()
    frozen = to_backbone(network, "a/b")
    classifier = network_classifier(frozen, network.head, 32, ["x", "y", "z"], temperature=1.6)
    with torch.inference_mode():
        vectors = PixelsToFeatures(frozen, 32)(X).numpy()[:, None]
        expected = torch.softmax(network(X.permute(0, 3, 1, 2)) / 1.6, 1).numpy()
    space = classifier.spaces[0]
    assert (space.backbone_name, space.weights_id, space.size) == ("a/b", frozen.weights_id, 32)
    np.testing.assert_allclose(classifier.predict_probs({space.key: vectors}), expected, atol=1e-5)


def test_a_network_that_stops_the_gradient_is_told_apart_and_nothing_of_it_is_trained() -> None:
    class Stopped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        @torch.no_grad()
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).mean((2, 3))

    stopped = from_module(Stopped(), size=8, name="stopped")
    assert not lets_gradient_through(stopped, 8)
    assert lets_gradient_through(create_backbone("small_resnet_8", size=8), 8)
    network = from_backbone(stopped, nn.Linear(4, 2), 8, trainable="head")
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
