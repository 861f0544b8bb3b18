"""The whole model as one ONNX file: from the original image's pixels to calibrated probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from fallow._version import __version__
from fallow.errors import RunError
from fallow.export.builder import GraphBuilder
from fallow.export.resize import resize
from fallow.models import (
    INLINE_LIMIT,
    Backbone,
    Branch,
    EmbeddingClassifier,
    FeatureMap,
    apply_view,
    backbone_graph,
    save_graph,
    view_indices,
)

IMAGE, PROBS, LOGITS, FEATURES = "image", "probs", "logits", "features"


def export_onnx(
    classifier: EmbeddingClassifier,
    backbones: Mapping[str, Backbone],
    path: Path,
    *,
    task: str = "classification",
    cache: Path | None = None,
) -> None:
    """Write ``classifier`` with everything it needs as one ONNX file, which runs in plain ONNX Runtime.

    Input: ``image`` uint8 (H, W, 3) RGB of any size. Outputs: ``probs`` (c,) calibrated probabilities,
    ``logits`` (c,) before the softmax, ``features`` (d,) the first branch's vector averaged over its views;
    all float32. Properties of the file: ``classes`` and ``spaces`` as JSON, ``task``, ``size``,
    ``fallow_version``.

    Args:
        classifier: The heads.
        backbones: By name, those that the branches use.
        path: Written atomically. Above 1.5 GB the tensors go to ``<path>.data`` beside it.
        task: Written into the properties.
        cache: Directory with backbone graphs (the embedder's ``cache / "graphs"``), to spare tracing again.

    Raises:
        RunError: A backbone is missing, has other weights than the heads were fitted on, or does not fit into
            ONNX.
    """
    model = build_graph(classifier, backbones, task=task, cache=cache)
    if model.ByteSize() < INLINE_LIMIT:
        onnx.checker.check_model(model)
    save_graph(model, path)


def build_graph(
    classifier: EmbeddingClassifier,
    backbones: Mapping[str, Backbone],
    *,
    task: str = "classification",
    cache: Path | None = None,
) -> onnx.ModelProto:
    """Return what `export_onnx` writes."""
    graph = GraphBuilder()
    features = _add_networks(graph, classifier, backbones, cache)
    weighted = [
        graph.op("Mul", _add_branch(graph, branch, features[branch.space.network]), graph.constant(weight))
        for branch, weight in zip(classifier.branches, classifier.branch_weights, strict=True)
    ]
    total = graph.op("Sum", *weighted)
    scaled = graph.op("Div", total, graph.constant(classifier.temperature))
    flat = graph.constant([-1])
    graph.op("Reshape", scaled, flat, name=LOGITS)
    graph.op("Softmax", LOGITS, name=PROBS, axis=-1)
    first = classifier.branches[0]
    pooled = _mean_over_views(graph, _views_of(graph, first, features[first.space.network]))
    graph.op("Reshape", pooled, flat, name=FEATURES)
    dim = backbones[first.space.backbone_name].dim_at(first.space.size)
    count = len(classifier.classes)
    return graph.model(
        "fallow",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["height", "width", 3])],
        [
            helper.make_tensor_value_info(PROBS, TensorProto.FLOAT, [count]),
            helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [count]),
            helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [dim]),
        ],
        {
            "classes": json.dumps(list(classifier.classes), ensure_ascii=False),
            "spaces": json.dumps([space.key for space in classifier.spaces]),
            "size": str(max(space.size for space in classifier.spaces)),
            "task": task,
            "fallow_version": __version__,
        },
    )


Networks = dict[tuple[str, str, int], tuple[str, tuple[int, ...]]]
"""Network -> (name of its features (v, d), the views in them)."""


def _add_networks(
    graph: GraphBuilder,
    classifier: EmbeddingClassifier,
    backbones: Mapping[str, Backbone],
    cache: Path | None,
) -> Networks:
    """Add each network once, run on all the views that any branch wants."""
    wanted: dict[tuple[str, str, int], set[int]] = {}
    for space in classifier.spaces:
        wanted.setdefault(space.network, set()).update(view_indices(space.views))
    resized: dict[int, str] = {}
    features: Networks = {}
    for number, (network, views) in enumerate(wanted.items()):
        name, weights_id, size = network
        backbone = backbones.get(name)
        if backbone is None or backbone.weights_id != weights_id:
            found = f"has weights {backbone.weights_id}" if backbone else "is not there"
            raise RunError(
                f"the backbone '{name}' with weights {weights_id} is needed for the export, but it {found}: "
                "load the weights that the model was trained on"
            )
        if size not in resized:
            resized[size] = resize(graph, IMAGE, size)
        ordered = tuple(sorted(views))
        pixels = _add_views(graph, resized[size], size, ordered)
        model = backbone_graph(backbone, size, cache)
        features[network] = graph.splice(model, pixels, f"backbone{number}_"), ordered
    return features


def _add_views(graph: GraphBuilder, image: str, size: int, views: tuple[int, ...]) -> str:
    """Add nodes that stack ``views`` of ``image`` (S, S, 3) to (v, S, S, 3).

    A view moves pixels about, so all views are one lookup; its table comes from the very function that the
    embedder uses.
    """
    if views == (0,):
        return graph.op("Unsqueeze", image, graph.constant([0]))
    places = np.arange(size * size, dtype=np.float32).reshape(size, size)
    table = np.stack([apply_view(places, view) for view in views]).astype(np.int32)
    flat = graph.op("Reshape", image, graph.constant([size * size, 3]))
    return graph.op("Gather", flat, graph.constant(table), axis=0)


def _views_of(graph: GraphBuilder, branch: Branch, features: tuple[str, tuple[int, ...]]) -> str:
    """Add nodes that pick the views of ``branch`` out of all that its network saw."""
    name, available = features
    wanted = view_indices(branch.space.views)
    if wanted == available:
        return name
    return graph.op("Gather", name, graph.constant([available.index(view) for view in wanted]), axis=0)


def _mean_over_views(graph: GraphBuilder, values: str) -> str:
    return graph.op("ReduceMean", values, graph.constant([0]), keepdims=1)


def _add_branch(graph: GraphBuilder, branch: Branch, features: tuple[str, tuple[int, ...]]) -> str:
    """Add nodes for the log-probabilities (1, c) of one branch."""
    vectors = _views_of(graph, branch, features)
    if branch.pool == "features":
        vectors = _mean_over_views(graph, vectors)
    mapped = _add_feature_map(graph, branch.feature_map, vectors)
    head = branch.head
    product = graph.op("MatMul", mapped, graph.constant(np.asarray(head.weight, np.float32)))
    logits = graph.op("Add", product, graph.constant(np.asarray(head.bias, np.float32)))
    scaled = graph.op("Div", logits, graph.constant(float(head.temperature)))
    log_probs = graph.op("LogSoftmax", scaled, axis=-1)
    return _mean_over_views(graph, log_probs) if branch.pool == "probs" else log_probs


def _add_feature_map(graph: GraphBuilder, feature_map: FeatureMap, vectors: str) -> str:
    """Add nodes for `FeatureMap.transform`: power, affine, unit length."""
    if feature_map.power != 1:
        raised = graph.op("Pow", graph.op("Abs", vectors), graph.constant(float(feature_map.power)))
        vectors = graph.op("Mul", graph.op("Sign", vectors), raised)
    mapped = vectors
    if feature_map.mean.any():
        mapped = graph.op("Sub", mapped, graph.constant(np.asarray(feature_map.mean, np.float32)))
    if feature_map.matrix is not None:
        mapped = graph.op("MatMul", mapped, graph.constant(np.asarray(feature_map.matrix, np.float32)))
    if not feature_map.unit:
        return mapped
    length = graph.op("ReduceL2", mapped, graph.constant([1]), keepdims=1)
    return graph.op("Div", mapped, graph.op("Max", length, graph.constant(1e-12)))
