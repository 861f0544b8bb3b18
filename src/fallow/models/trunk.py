"""The part of a network that stands still, apart from the part that learns: images to maps once, maps to features often."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fallow.errors import RunError
from fallow.models.backbones import Backbone
from fallow.models.network import Network
from fallow.models.weights import fingerprint

_CHECKED = 3
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Cut:
    """Where a network is cut: behind the last of its parts that stand still.

    Attributes:
        unit: Name of the submodule whose output the maps are; empty: the whole module, whose features the maps are.
        before: Names of the submodules in front of it, which the tail does without.
        shape: Of the maps of one image.
        trunk_id: Short hash of the tensors that stand still: trunks with the same give the same maps.
    """

    unit: str
    before: tuple[str, ...]
    shape: tuple[int, ...]
    trunk_id: str


class Trunk(nn.Module):
    """Normalized images (n, 3, S, S) to maps (n, ...): a network's forward pass up to the cut."""

    def __init__(self, module: nn.Module, unit: str) -> None:
        super().__init__()
        self.module, self.unit = module, unit

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps."""
        if not self.unit:
            features: Tensor = self.module(x)
            return features
        found: list[Any] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            found.append(output)
            # A graph that is traced is cut behind its output anyway, and cannot be left by an exception.
            if not torch.compiler.is_exporting():
                raise _Reached

        handle = self.module.get_submodule(self.unit).register_forward_hook(keep)
        try:
            self.module(x)
        except _Reached:
            pass
        finally:
            handle.remove()
        if not found:
            raise RunError(f"the network never runs '{self.unit}'")
        maps: Tensor = found[0]
        return maps


class TailNetwork(Network):
    """A network whose trunk is gone: ``features`` takes maps. What it learned goes back into the whole by `whole`.

    The network's own forward pass is run on one blank image, in which the parts in front of the cut are constants and the
    last of them is the given maps. So anything it does between its parts is done here too.

    Args:
        network: Is cut; it is not changed, but its head becomes this network's.
        cut: From `find_cut`.
    """

    blank: Tensor

    def __init__(self, network: Network, cut: Cut) -> None:
        body: nn.Module = copy.deepcopy(network.module) if cut.unit else nn.Identity()
        if cut.unit:
            for name, value in _outputs(network.module, cut.before, network.size).items():
                _put(body, name, _Constant(value, network.module.get_submodule(name)))
            _put(body, cut.unit, _Given())
        super().__init__(
            body, network.head, network.like, network.size, network.parts, float(network.dropout.p)
        )
        self.branches, self.cut = network.branches, cut
        self.register_buffer("blank", torch.zeros(1, 3, network.size, network.size), persistent=False)
        self._whole = _Kept(network.module)
        self.train(network.training)

    def features(self, maps: Tensor) -> Tensor:
        """Return pooled features (n, dim) of maps (n, ...)."""
        if not self.cut.unit:
            untouched: Tensor = self.dropout(maps)
            return untouched
        given = self.module.get_submodule(self.cut.unit)
        assert isinstance(given, _Given)
        given.maps = maps
        try:
            found: Tensor = self.dropout(self.module(self.blank))
        finally:
            given.maps = None
        return found

    def whole(self) -> nn.Module:
        """Return a copy of the module, trunk and trained tail."""
        made = copy.deepcopy(self._whole.module)
        for name in self.parts:
            made.get_submodule(name).load_state_dict(self.module.get_submodule(name).state_dict())
        return made


def find_cut(network: Network) -> Cut:
    """Return where a network can be cut in two, checked on numbers: the tail of the trunk is the network.

    Raises:
        RunError: All of it learns, or its parts do not run one after the other.
    """
    if network.parts == ("",):
        raise RunError("all of the network learns")
    frozen = {
        key: tensor
        for key, tensor in network.module.state_dict().items()
        if not any(key.startswith(f"{part}.") for part in network.parts)
    }
    before = _before(network.module, network.parts[0]) if network.parts else [""]
    if not before:
        raise RunError("no part of the network stands still")
    trunk_id = fingerprint(frozen, before[-1], str(network.size))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(_CHECKED, 3, network.size, network.size, generator=generator)
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            maps = Trunk(network.module, before[-1])(images * network.scale + network.shift)
            if not isinstance(maps, Tensor) or len(maps) != _CHECKED:
                raise RunError(f"'{before[-1]}' of the network gives no tensor with a row for each image")
            cut = Cut(before[-1], tuple(before[:-1]), tuple(maps.shape[1:]), trunk_id)
            expected = network.features(images)
            found = TailNetwork(network, cut).features(maps)
    except RunError:
        raise
    except Exception as error:  # whatever a foreign forward pass raises when its parts are taken away
        raise RunError(f"the network cannot be cut at '{before[-1]}' ({type(error).__name__})") from error
    finally:
        network.train(training)
    scale = float(expected.abs().max()) + 1e-12
    if found.shape != expected.shape or float((found - expected).abs().max()) > _TOLERANCE * scale:
        raise RunError(f"what follows '{before[-1]}' in the network depends on more than its output")
    return cut


def trunk_backbone(network: Network, cut: Cut) -> Backbone:
    """Return the trunk as a backbone, whose vectors are maps: what engines and graphs are made for.

    Args:
        network: Which holds the trunk; it is copied.
        cut: From `find_cut`.
    """
    name = f"{network.like.architecture}-trunk-{cut.unit or 'all'}"
    module = Trunk(copy.deepcopy(network.whole()), cut.unit).eval().requires_grad_(False)
    return replace(
        network.like,
        name=name,
        architecture=name,
        weights_id=cut.trunk_id,
        dim=math.prod(cut.shape),
        default_size=network.size,
        module=module,
        fixed_size=False,
    )


def _before(module: nn.Module, first: str) -> list[str]:
    """Return the names of all submodules in front of ``first``: siblings of it and of what it lies in, in order."""
    found: list[str] = []
    path = first.split(".")
    for depth, own in enumerate(path):
        holder = ".".join(path[:depth])
        start = f"{holder}." if holder else ""
        for name, _ in module.get_submodule(holder).named_children():
            if name == own:
                break
            found.append(start + name)
    return found


def _outputs(module: nn.Module, names: tuple[str, ...], size: int) -> dict[str, Tensor]:
    """Return what submodules give for a blank image; those that give no tensor, or do not run, stay as they are."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[name] = output.detach().clone()

        return hook

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    training = [part for part in module.modules() if part.training]
    try:
        with torch.no_grad():
            device = next((p.device for p in module.parameters()), None)
            module.eval()(torch.zeros(1, 3, size, size, device=device))
    finally:
        for handle in handles:
            handle.remove()
        for part in training:
            part.training = True
    return found


def _put(module: nn.Module, name: str, part: nn.Module) -> None:
    holder, _, own = name.rpartition(".")
    setattr(module.get_submodule(holder), own, part)


class _Constant(nn.Module):
    """Stands for a part in front of the cut, whose output no longer matters: it costs nothing."""

    value: Tensor

    def __init__(self, value: Tensor, stood_for: nn.Module) -> None:
        super().__init__()
        self.register_buffer("value", value, persistent=False)
        self.stood_for = _Kept(stood_for)

    def __getattr__(self, name: str) -> Any:
        """Return what the network reads off the part, such as its grid."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "stood_for" not in self.__dict__:
                raise
            return getattr(self.stood_for.module, name)

    def forward(self, *given: Any, **named: Any) -> Tensor:
        return self.value


class _Given(nn.Module):
    """Stands for the last part in front of the cut: its output is what was given."""

    maps: Tensor | None = None

    def forward(self, *given: Any, **named: Any) -> Tensor:
        assert self.maps is not None
        return self.maps


class _Kept:
    """Holds a module that is neither trained, averaged nor copied with its holder."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> _Kept:
        return self


class _Reached(Exception):
    """Ends a forward pass at the cut."""
