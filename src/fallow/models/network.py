"""A backbone that learns, with its head; and the way back to a frozen one."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fallow.errors import ConfigError, RunError
from fallow.models.adapters import add_adapters, is_adapted, merged
from fallow.models.backbones import PIXELS, Backbone, Triple, backbone_from_state
from fallow.models.classifier import Branch, EmbeddingClassifier
from fallow.models.embed import Space
from fallow.models.feature_map import FeatureMap
from fallow.models.linear import LinearHead
from fallow.models.own import is_own
from fallow.models.preprocess import Preprocess
from fallow.models.small import SmallResNet, set_drop_path
from fallow.models.weights import fingerprint, load_strict

Trainable = Literal["all", "last", "head", "lora"]

_CONTAINERS = ("blocks", "stages", "layers", "features")
_STAGE = re.compile(r"(?:^|\.)(?:layer|stage|s)\d+$")
_LAST_SHARE = 4
"""One in this many of a network's blocks or stages counts as its last ones, rounded up."""


class Network(nn.Module):
    """Pixels to outputs: normalization, backbone, pooled features, head. Made by `from_backbone`.

    Images are float (n, 3, S, S) in 0..1, or uint8 (n, 3, S, S) in 0..255; on the same uint8 pixels the features are
    those that embedding and the exported model compute. Parts that are not trained stay in evaluation mode, whatever
    ``train()`` is asked for: their batch statistics do not move.

    Args:
        module: Normalized images to pooled features.
        head: Features to raw outputs.
        like: The backbone that it started from; its module is not kept.
        size: Side in pixels of the images.
        parts: Names of the submodules of ``module`` that are trained; an empty name stands for all of it.
        dropout: Share of the features that dropout zeroes before the head, in training mode.

    Attributes:
        module: The backbone's network.
        head: The head.
        like: Name, architecture, mean and std of the backbone that it started from.
        size: Side in pixels of the images.
        parts: What is trained of ``module``.
        branches: How many residual branches stochastic depth may leave out.
    """

    branches: int = 0
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        module: nn.Module,
        head: nn.Module,
        like: Backbone,
        size: int,
        parts: Sequence[str] = ("",),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.module, self.head, self.dropout = module, head, nn.Dropout(dropout)
        self.like = replace(like, module=nn.Identity())
        self.size, self.parts = size, tuple(parts)
        scale, shift = Preprocess(size, like.mean, like.std).scale_shift()
        self.register_buffer("scale", torch.from_numpy(scale * 255).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.from_numpy(shift).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features (n, dim)."""
        x = images.to(self.scale.dtype) / 255 if images.dtype == torch.uint8 else images
        found: Tensor = self.dropout(self.module(x * self.scale + self.shift))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return what the head makes of the features."""
        outputs: Tensor = self.head(self.features(images))
        return outputs

    @property
    def adapted(self) -> bool:
        """Whether adapters learn beside its layers."""
        return is_adapted(self.module)

    def whole(self) -> nn.Module:
        """Return the module as it is now, from images to features; adapters are part of the weights."""
        return merged(self.module) if self.adapted else self.module

    def train(self, mode: bool = True) -> Network:
        """Set training mode where something is trained, and evaluation mode elsewhere."""
        super().train(mode)
        if mode and self.parts != ("",):
            self.module.eval()
            for name in self.parts:
                self.module.get_submodule(name).train()
        return self


def from_backbone(
    backbone: Backbone,
    head: nn.Module,
    size: int,
    *,
    trainable: Trainable = "all",
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Network:
    """Return a network that learns, starting from a copy of ``backbone``, in training mode.

    Args:
        backbone: Where it starts; it is not changed.
        head: Features to raw outputs; it is used as it is, not copied.
        size: Side in pixels of the images.
        trainable: ``all``; ``last``: the last quarter of the blocks or stages and everything after them (of a small
            residual network, all); ``head``: the backbone stays as it is; ``lora``: low-rank adapters beside all of its layers.
        dropout: Share of the features that dropout zeroes before the head.
        drop_path: Stochastic depth of the last residual block; blocks before it have less, in proportion to depth. It does
            nothing in a network without residual blocks that are understood: ``branches`` is 0 then.

    Raises:
        ConfigError: The backbone has nothing to train or cannot take this size, or another argument is unknown.
    """
    if trainable not in get_args(Trainable):
        raise ConfigError(f"what is trained cannot be '{trainable}': use {', '.join(get_args(Trainable))}")
    if backbone.name == PIXELS and trainable != "head":
        raise ConfigError(
            "the backbone 'pixels' has no weights that could be trained: choose another backbone"
        )
    module = copy.deepcopy(backbone.at_size(size))
    # Also for a rate of 0: stochastic depth of an earlier training does not stay.
    branches = set_drop_path(module, drop_path) if drop_path > 0 or not is_own(module) else 0
    module.requires_grad_(True)
    if is_own(module):
        _freeze_unused(module, size)
    parts = _parts(module, trainable, size)
    if parts != ("",):
        _freeze_but(module, parts)
    network = Network(module, head.requires_grad_(True), backbone, size, parts, dropout)
    network.branches = branches
    return network.train()


def _parts(module: nn.Module, trainable: Trainable, size: int) -> tuple[str, ...]:
    """Return the names of what is trained; adapters are put in place."""
    if trainable == "lora":
        return _adapted_parts(module, size)
    if trainable == "last":
        return _last_parts(module)
    return ("",) if trainable == "all" else ()


def _adapted_parts(module: nn.Module, size: int) -> tuple[str, ...]:
    """Put adapters in place and return those that learn: a forward pass that reads a layer's weight itself runs past its adapter."""
    placed = add_adapters(module)
    for name in placed:
        module.get_submodule(name).requires_grad_(True)
    _freeze_unused(module, size)
    parts = tuple(name for name in placed if _learns(module.get_submodule(name)))
    if not parts:
        raise ConfigError(
            "network.trainable=lora: the network reads the weights of its layers itself, so that adapters beside them would "
            "change nothing; take last or all"
        )
    return parts


def to_backbone(network: Network, name: str) -> Backbone:
    """Freeze the network that was trained, without its head, as a backbone of its own name.

    Args:
        network: It is copied: training may go on.
        name: Such as ``joint/tf_efficientnet_lite0``; another than the architecture's.

    Raises:
        RunError: A weight is not finite, or the name is the architecture's.
    """
    like = network.like
    module = copy.deepcopy(network.whole()).to("cpu", torch.float32).to(memory_format=torch.contiguous_format)
    for key, tensor in module.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunError(
                f"the trained network '{name}' holds values that are not finite ({key}): lower the learning rate"
            )
    return _trained(like, name, module.eval().requires_grad_(False), network.size, "trained in this run")


def rebuild_backbone(
    name: str,
    state: dict[str, Tensor],
    *,
    architecture: str,
    size: int,
    mean: Triple,
    std: Triple,
    origin: str,
    own: Backbone | None = None,
) -> Backbone:
    """Rebuild a trained backbone from its tensors and its architecture.

    Args:
        name: What it is called.
        state: Its tensors.
        architecture: What it is built as.
        size: Side in pixels that it was trained at.
        mean: Mean per channel on a 0..1 scale.
        std: Standard deviation per channel on a 0..1 scale.
        origin: Where the tensors come from, for errors.
        own: The user's own network, which is rebuilt from its code where the architecture is its name.

    Raises:
        ConfigError: There is no such architecture.
        WeightsError: The tensors do not fit.
    """
    if own is None or own.architecture != architecture:
        return backbone_from_state(
            name, state, origin, architecture=architecture, size=size, mean=mean, std=std
        )
    module = copy.deepcopy(own.at_size(size))
    load_strict(module, state, origin, prefixes=())
    return _trained(replace(own, mean=mean, std=std), name, module, size, origin)


def _trained(like: Backbone, name: str, module: nn.Module, size: int, note: str) -> Backbone:
    if name == like.architecture:
        raise RunError(f"a trained network cannot be called '{name}' as the one that it started from")
    weights_id = fingerprint(module.state_dict(), like.architecture)
    return replace(
        like, name=name, weights_id=weights_id, default_size=size, module=module, note=note, lasting=False
    )


def network_classifier(
    backbone: Backbone,
    head: nn.Module | LinearHead,
    size: int,
    classes: Sequence[str],
    temperature: float = 1.0,
    views: str = "none",
) -> EmbeddingClassifier:
    """Return a trained backbone with its linear head as the classifier that every rung leaves.

    Args:
        backbone: From `to_backbone`.
        head: The linear layer that was trained on its features.
        size: Side in pixels of the images.
        classes: Names of the classes in the order of the outputs.
        temperature: Divides the log-probabilities.
        views: Views whose features are averaged.

    Raises:
        RunError: The head is not linear, or does not fit.
    """
    if isinstance(head, nn.Linear):
        weight = head.weight.detach().cpu().float().numpy().T
        bias = np.zeros(weight.shape[1]) if head.bias is None else head.bias.detach().cpu().float().numpy()
        head = LinearHead(np.ascontiguousarray(weight), np.asarray(bias, np.float32).copy())
    if not isinstance(head, LinearHead) or head.weight.shape[0] != backbone.dim_at(size):
        found = f"{head.weight.shape[0]} inputs" if isinstance(head, LinearHead) else type(head).__name__
        raise RunError(
            f"the head ({found}) of '{backbone.name}' is no linear layer on its {backbone.dim_at(size)} features"
        )
    space = Space(backbone.name, backbone.weights_id, backbone.fit_size(size), views)
    identity = FeatureMap.identity(backbone.dim_at(size))
    return EmbeddingClassifier([Branch(space, identity, head)], classes, temperature)


def _freeze_but(module: nn.Module, parts: Sequence[str]) -> None:
    """Keep gradients in ``parts`` only, and there where they were."""
    kept = {id(p) for name in parts for p in module.get_submodule(name).parameters()}
    for parameter in module.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def lets_gradient_through(backbone: Backbone, size: int) -> bool:
    """Say whether a network can learn: it has weights, and its forward does not stop the gradient."""
    module = copy.deepcopy(backbone.at_size(size)).requires_grad_(True)
    with torch.enable_grad():
        found: bool = module(torch.full((2, 3, size, size), 0.5)).requires_grad
    return found


def _freeze_unused(module: nn.Module, size: int) -> None:
    """Freeze what the features of a network do not depend on, such as layers behind the hook of a user's own."""
    module.eval()
    with torch.enable_grad():
        total = module(torch.full((2, 3, size, size), 0.5)).float().sum()
        if total.requires_grad:
            total.backward()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


def _last_parts(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the last blocks or stages and of what follows them."""
    if isinstance(module, SmallResNet):
        return ("",)
    names, prefix = _children(module, ""), ""
    while len(names) == 1:  # a wrapper around the network
        prefix = names[0]
        names = _children(module, prefix)
    if not names:  # one layer is all that there is
        return (prefix,)
    stages = [name for name in names if _STAGE.search(name)]
    for container in names:
        inside = _children(module, container)
        if container.rsplit(".", 1)[-1] in _CONTAINERS and len(inside) > 1:
            position = names.index(container)
            names[position : position + 1] = stages = inside
            break
    stages = stages or names
    first = stages[-math.ceil(len(stages) / _LAST_SHARE)]
    return tuple(names[names.index(first) :])


def _children(module: nn.Module, name: str) -> list[str]:
    """Return the full names of the submodules of ``name`` that can learn."""
    start = f"{name}." if name else ""
    return [start + key for key, part in module.get_submodule(name).named_children() if _learns(part)]


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())
