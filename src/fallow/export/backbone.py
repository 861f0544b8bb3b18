"""A backbone as it leaves: plain weights that load into an untouched network, and ONNX from pixels to features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from fallow._version import __version__
from fallow.errors import RunError
from fallow.export.builder import GraphBuilder
from fallow.export.bundle import CARD, FORMAT, GRAPH, TENSORS
from fallow.export.folder import digest, whole_folder, write_tensors
from fallow.export.onnx_graph import FEATURES, IMAGE
from fallow.export.resize import resize
from fallow.models import (
    INLINE_LIMIT,
    SMALL_RESNET,
    SMALL_STEM,
    Backbone,
    backbone_graph,
    load_strict,
    read_state,
    save_graph,
)
from fallow.models.backbones import untouched
from fallow.models.own import is_own
from fallow.models.saved import BACKBONE, META
from fallow.models.torchvision_nets import is_torchvision, snippet
from fallow.record import write_json
from fallow.types import JsonObject

_TOLERANCE = 1e-5
_COMPARED = 2


def save_backbone(
    directory: Path,
    backbone: Backbone,
    *,
    card: str,
    extra: JsonObject | None = None,
    cache: Path | None = None,
) -> list[str]:
    """Write ``model.safetensors``, ``model.onnx``, ``model.json`` and ``README.md``, and check them before they count.

    The tensors have the names that timm (or the user's own code) gives them. They are read back and loaded strictly into a
    network that nobody touched, whose features must be those of ``backbone``; the ONNX file must give the same.

    Args:
        directory: The folder; one that is there is replaced, whole.
        backbone: What leaves; its ``default_size`` is the side that it sees.
        card: Text of the card (Markdown); what loads the files is added.
        extra: More plain values for ``model.json``.
        cache: Directory with backbone graphs, as for `backbone_graph`.

    Returns:
        What could not be written, a sentence each: a network that ONNX cannot express leaves without.

    Raises:
        RunError: What was written does not give what the backbone gives, or the disk is full.
    """
    own, notes = is_own(backbone.module), []
    state = backbone.module.state_dict()
    if own:
        state = {key.removeprefix("module."): value for key, value in state.items()}
    with whole_folder(directory) as folder:
        write_tensors(folder / TENSORS, state)
        _check_weights(backbone, folder / TENSORS)
        try:
            _write_graph(backbone, folder / GRAPH, cache)
        except RunError as error:
            notes.append(f"model.onnx was not written: {error}.")
        (folder / CARD).write_text(
            _card(card, backbone, own, not notes), encoding="utf-8", errors="backslashreplace"
        )
        meta: JsonObject = {
            **(extra or {}),
            "format": FORMAT,
            "kind": BACKBONE,
            "fallow_version": __version__,
            "architecture": backbone.architecture,
            "own": own,
            "size": backbone.default_size,
            "dim": backbone.dim_at(backbone.default_size),
            "mean": list(backbone.mean),
            "std": list(backbone.std),
            "weights_id": backbone.weights_id,
            "files": {path.name: digest(path) for path in sorted(folder.iterdir())},
        }
        write_json(folder / META, meta)
    return notes


def _check_weights(backbone: Backbone, file: Path) -> None:
    """Load the file into a network that nobody touched, and compare."""
    size = backbone.default_size
    fresh = _blank(backbone)
    load_strict(fresh.module if is_own(fresh) else fresh, read_state(file), f"'{file}'", prefixes=())  # type: ignore[arg-type]
    images = torch.rand(_COMPARED, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _compare(fresh.eval()(images).numpy(), backbone.at_size(size)(images).numpy(), file)


def _blank(backbone: Backbone) -> nn.Module:
    """Return a network of the same architecture whose weights are others."""
    import copy

    if not is_own(backbone.module):
        return untouched(backbone.architecture, backbone.default_size)
    module = copy.deepcopy(backbone.module)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    return module


def _compare(found: Any, expected: Any, file: Path) -> None:
    scale = float(np.abs(expected).max()) + 1e-12
    apart = float(np.abs(found - expected).max())
    if not apart <= _TOLERANCE * max(scale, 1.0):
        raise RunError(
            f"what '{file.name}' gives differs from the trained network by {apart:.1e}: nothing was exported"
        )


def _write_graph(backbone: Backbone, path: Path, cache: Path | None) -> None:
    """Write ``image`` uint8 (H, W, 3) of any size -> ``features`` (dim,) as one ONNX file, and compare it with the network."""
    size, graph = backbone.default_size, GraphBuilder()
    square = resize(graph, IMAGE, size)
    batch = graph.op("Unsqueeze", square, graph.constant([0]))
    features = graph.splice(backbone_graph(backbone, size, cache), batch, "backbone_")
    graph.op("Reshape", features, graph.constant([-1]), name=FEATURES)
    model = graph.model(
        "fallow",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["height", "width", 3])],
        [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [backbone.dim_at(size)])],
        {"architecture": backbone.architecture, "size": str(size), "fallow_version": __version__},
    )
    if model.ByteSize() < INLINE_LIMIT:
        onnx.checker.check_model(model)
    save_graph(model, path)


def _card(text: str, backbone: Backbone, own: bool, graph: bool) -> str:
    parts = [text.rstrip(), "", "## Load it", "", "```python", *_snippet(backbone, own), "```", ""]
    mean, std = ([round(float(v), 4) for v in values] for values in (backbone.mean, backbone.std))
    parts += [
        f"Give it RGB images of {backbone.default_size} x {backbone.default_size} pixels, scaled to 0..1, less the mean {mean}, over "
        f"the standard deviation {std}; it gives {backbone.dim_at(backbone.default_size)} features.",
    ]
    if graph:
        parts += [
            "",
            "Or `model.onnx`, which resizes and normalizes by itself:",
            "",
            "```python",
            "import onnxruntime",
            'features = onnxruntime.InferenceSession("model.onnx").run(None, {"image": image})[0]  # uint8 (height, width, 3)',
            "```",
        ]
    return "\n".join(parts) + "\n"


def _snippet(backbone: Backbone, own: bool) -> list[str]:
    """Return the lines that load the weights."""
    name, size = backbone.architecture, backbone.default_size
    if own:
        return [
            "from safetensors.torch import load_file",
            f"network = {name}(...)  # your own code",
            'network.load_state_dict(load_file("model.safetensors"))',
        ]
    if name.startswith(SMALL_RESNET) or name.endswith(SMALL_STEM):
        return [
            "from fallow.models import load_backbone",
            'backbone = load_backbone(".")  # this folder, or the run that it is in',
            "network = backbone.module  # a torch module",
        ]
    if is_torchvision(name):
        return snippet(name)
    sized = f", img_size={size}" if hasattr(backbone.module, "set_input_size") else ""
    return [
        "import timm; from safetensors.torch import load_file",
        f'network = timm.create_model("{name}", pretrained=False, num_classes=0{sized})',
        'network.load_state_dict(load_file("model.safetensors"))',
    ]
