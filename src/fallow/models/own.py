"""The user's own network as a backbone: its code stays theirs, and only its code can rebuild it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from fallow.errors import ConfigError
from fallow.models.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    Triple,
    frozen,
    probe_features,
    triple,
)
from fallow.models.weights import fingerprint

FeatureHook: TypeAlias = "str | Callable[[nn.Module, torch.Tensor], torch.Tensor] | None"


def from_module(
    module: nn.Module,
    *,
    size: int = 224,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    feature_hook: FeatureHook = None,
    name: str | None = None,
) -> Backbone:
    """Make a backbone of the user's own network. It is copied: the original is neither changed nor followed.

    Args:
        module: Takes normalized (N, 3, S, S) float32 images.
        size: Side in pixels it is fed with by default.
        mean: Mean per channel on a 0..1 scale. Default: ImageNet's, which most networks were trained with.
        std: Standard deviation per channel on a 0..1 scale. Default: ImageNet's.
        feature_hook: Name of the submodule whose output is the feature, or ``hook(module, x) -> features``.
            None: the module's own output. A (N, C, H, W) output is averaged over H and W.
        name: Name in reports and cache keys. Default: the class name.

    Raises:
        ConfigError: There is no such submodule, or the features are not (N, dim) or (N, C, H, W).
    """
    label = name or type(module).__name__
    if isinstance(feature_hook, str) and feature_hook not in dict(module.named_modules()):
        known = [key for key, _ in module.named_modules() if key]
        raise ConfigError(
            f"the network '{label}' has no submodule '{feature_hook}' to take features from: it has "
            f"{', '.join(known[:12])}{' ...' if len(known) > 12 else ''}"
        )
    wrapped = frozen(_Hooked(copy.deepcopy(module), feature_hook))
    hook_text = feature_hook if isinstance(feature_hook, str) else _source(feature_hook)
    dim = probe_features(wrapped, size, label).shape[1]
    weights_id = fingerprint(module.state_dict(), label, repr(module), hook_text, *_own_sources(module))
    return Backbone(label, weights_id, dim, triple(mean), triple(std), size, wrapped, "given in Python")


class _Hooked(nn.Module):
    """A user's network, ending where its features are."""

    def __init__(self, module: nn.Module, hook: FeatureHook) -> None:
        super().__init__()
        self.module = module
        self._call = hook if callable(hook) else None
        self._caught: list[torch.Tensor] | None = None
        if isinstance(hook, str):
            self._caught = []
            module.get_submodule(hook).register_forward_hook(self._catch)

    def _catch(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if self._caught is not None:
            self._caught.append(output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self._call(self.module, x) if self._call else self.module(x)
        if self._caught is not None:
            features = self._caught[-1]
            self._caught.clear()
        return features.mean((2, 3)) if getattr(features, "ndim", 0) == 4 else features


def is_own(module: nn.Module) -> bool:
    """Say whether this is a user's own network, which only its code can rebuild."""
    return isinstance(module, _Hooked)


def _own_sources(module: nn.Module) -> list[str]:
    """Return the source of the classes in ``module`` that are not torch's: other code gets another id."""
    kinds = {type(part) for part in module.modules() if not type(part).__module__.startswith("torch.")}
    return [
        _source(kind) for kind in sorted(kinds, key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
    ]


def _source(thing: object) -> str:
    try:
        return inspect.getsource(thing)  # type: ignore[arg-type]
    except (OSError, TypeError):  # typed at a prompt, or a partial: its name has to do
        return getattr(thing, "__qualname__", repr(type(thing)))
