"""From the original pixels through the one file: the same answer as from memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fallow.errors import RunError
from fallow.export import export_onnx
from fallow.export.builder import GraphBuilder
from fallow.export.resize import resize
from fallow.models import (
    Backbone,
    Branch,
    Embedder,
    EmbeddingClassifier,
    FeatureMap,
    LinearHead,
    Preprocess,
    fit_feature_map,
    fit_logistic,
    load_backbone,
)
from tests.networks import Pixels, Reader, digits, photos, resnet_file, tiny_backbone


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone("test_resnet", weights=resnet_file(tmp_path_factory.mktemp("weights")))


def _fit(
    backbone: Backbone,
    size: int,
    views: str,
    pool: str,
    data: tuple[list[Pixels], np.ndarray],
    cache: Path,
    components: int | None = 16,
) -> tuple[Branch, np.ndarray]:
    images, labels = data
    reader = Reader(images, prefix=f"{len(images)}-")
    embedder = Embedder(backbone, size, cache=cache, device="cpu")
    vectors = embedder.embed(reader, reader.ids, reader.hashes, views)
    pooled = vectors.mean(1)
    power = 1.0 if components is None else 0.5
    feature_map = fit_feature_map(pooled, components=components, whiten=0.5, power=power)
    head = fit_logistic(feature_map.transform(pooled), labels, n_classes=int(labels.max()) + 1)
    softer = replace(head, temperature=0.7)
    branch = Branch(embedder.space(views), feature_map, softer, pool)  # type: ignore[arg-type]
    return branch, vectors


def _session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def _assert_same(
    classifier: EmbeddingClassifier, features: dict[str, np.ndarray], path: Path, images: list[Pixels]
) -> None:
    session = _session(path)
    expected = classifier.predict_probs(features)
    probs, logits, first = zip(*(session.run(None, {"image": image}) for image in images), strict=True)
    assert (np.argmax(probs, 1) == expected.argmax(1)).mean() >= 0.995
    np.testing.assert_allclose(np.stack(probs), expected, atol=5e-3)
    np.testing.assert_allclose(np.stack(logits), classifier.logits(features), atol=5e-2)
    pooled = features[classifier.branches[0].space.key].mean(1)
    assert np.abs(np.stack(first) - pooled).max() < 2e-2 * np.abs(pooled).max()


def test_several_branches_sizes_views_and_backbones(cache: Path, resnet: Backbone, tmp_path: Path) -> None:
    data = photos(60)
    tiny, pixels = tiny_backbone(), load_backbone("pixels")
    parts = [
        _fit(resnet, 48, "turns", "probs", data, cache),
        _fit(resnet, 48, "flip", "features", data, cache, None),
        _fit(tiny, 32, "none", "features", data, cache),
        _fit(pixels, 16, "flip", "probs", data, cache),
    ]
    classifier = EmbeddingClassifier([b for b, _ in parts], ["left", "right"], 1.4, [3, 1, 1, 2])
    features = {branch.space.key: vectors for branch, vectors in parts}
    path = tmp_path / "model.onnx"
    backbones = {b.name: b for b in (resnet, tiny, pixels)}
    export_onnx(classifier, backbones, path, cache=cache / "graphs")
    _assert_same(classifier, features, path, data[0])
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)
    alone = EmbeddingClassifier([parts[0][0], parts[2][0]], ["left", "right"])
    export_onnx(alone, backbones, tmp_path / "two.onnx", cache=cache / "graphs")
    assert sum(node.op_type == "Conv" for node in onnx.load(tmp_path / "two.onnx").graph.node) == convolutions


def test_digits_of_eight_pixels(cache: Path, tmp_path: Path) -> None:
    data = digits(400)
    branch, vectors = _fit(load_backbone("pixels"), 8, "none", "features", data, cache, 32)
    classifier = EmbeddingClassifier([branch], [str(n) for n in range(10)])
    path = tmp_path / "digits.onnx"
    export_onnx(classifier, {"pixels": load_backbone("pixels")}, path)
    _assert_same(classifier, {branch.space.key: vectors}, path, data[0])
    assert (classifier.predict_probs({branch.space.key: vectors}).argmax(1) == data[1]).mean() > 0.95


def test_the_file_describes_itself(cache: Path, tmp_path: Path) -> None:
    branch, _ = _fit(tiny_backbone(), 32, "none", "features", photos(20), cache)
    classes = ["naïve <b>", "日本"]
    path = tmp_path / "model.onnx"
    export_onnx(EmbeddingClassifier([branch], classes), {"tiny": tiny_backbone()}, path, task="binary")
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = _session(path)
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["classes"]) == classes
    assert (found["task"], found["size"]) == ("binary", "32")
    assert json.loads(found["spaces"]) == [branch.space.key]
    assert found["fallow_version"]
    image = session.get_inputs()[0]
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["height", "width", 3])
    assert [(o.name, o.shape) for o in session.get_outputs()] == [
        ("probs", [2]),
        ("logits", [2]),
        ("features", [24]),
    ]
    content = path.read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parent).encode() not in content


SHAPES = [(1, 1), (1, 9), (7, 300), (300, 7), (8, 8), (32, 32), (33, 31), (500, 333), (640, 427)]


@pytest.mark.parametrize("size", [8, 16, 33, 96])
def test_resize_is_the_embedders(size: int) -> None:
    graph = GraphBuilder()
    graph.op("Identity", resize(graph, "image", size), name="resized")
    model = graph.model(
        "resize",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["h", "w", 3])],
        [onnx.helper.make_tensor_value_info("resized", onnx.TensorProto.UINT8, [size, size, 3])],
        {},
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES] + photos(4)[0]
    for image in images:
        expected = Preprocess(size).resize(image)
        off = np.abs(session.run(None, {"image": image})[0].astype(int) - expected)
        assert off.max() <= 2
        assert off.mean() < 0.02


def test_a_vector_at_the_mean_gives_no_nan(tmp_path: Path) -> None:
    space = Embedder(load_backbone("pixels"), 8, cache=tmp_path).space("none")
    head = LinearHead(np.ones((192, 2), np.float32), np.array([0, np.log(3)], np.float32))
    classifier = EmbeddingClassifier([Branch(space, FeatureMap(np.zeros(192, np.float32)), head)], ["a", "b"])
    export_onnx(classifier, {"pixels": load_backbone("pixels")}, tmp_path / "m.onnx")
    probs = _session(tmp_path / "m.onnx").run(["probs"], {"image": np.zeros((8, 8, 3), np.uint8)})[0]
    np.testing.assert_allclose(probs, [0.25, 0.75], atol=1e-6)


@pytest.mark.parametrize("pool", ["features", "probs"])
def test_vectors_may_keep_their_lengths(cache: Path, tmp_path: Path, pool: str) -> None:
    data = photos(30)
    branch, vectors = _fit(tiny_backbone(), 32, "flip", pool, data, cache)
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(24, 2)).astype(np.float32), np.zeros(2, np.float32))
    for feature_map in (FeatureMap.identity(24), FeatureMap(vectors[:, 0].mean(0), unit=False)):
        free = replace(branch, feature_map=feature_map, head=head)
        classifier = EmbeddingClassifier([free], ["left", "right"])
        export_onnx(classifier, {"tiny": tiny_backbone()}, tmp_path / "m.onnx", cache=cache / "graphs")
        _assert_same(classifier, {branch.space.key: vectors}, tmp_path / "m.onnx", data[0])


def test_other_weights_than_the_heads_were_fitted_on_are_refused(cache: Path, tmp_path: Path) -> None:
    branch, _ = _fit(tiny_backbone(), 32, "none", "features", photos(20), cache)
    classifier = EmbeddingClassifier([branch], ["a", "b"])
    with pytest.raises(RunError, match="is not there"):
        export_onnx(classifier, {}, tmp_path / "m.onnx")
    with pytest.raises(RunError, match="has weights pixels"):
        export_onnx(classifier, {"tiny": load_backbone("pixels")}, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
