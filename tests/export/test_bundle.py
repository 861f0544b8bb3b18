from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fallow.data import default_workers
from fallow.errors import ConfigError, DataError, RunError
from fallow.export import bundle, load_bundle, save_bundle, write_card
from fallow.models import (
    Backbone,
    Branch,
    Embedder,
    EmbeddingClassifier,
    create_backbone,
    fit_feature_map,
    fit_logistic,
    from_backbone,
    load_backbone,
    network_classifier,
    to_backbone,
)
from tests.networks import Pixels, Reader, digits, tiny_backbone

CLASSES = [str(n) for n in range(10)]
FILES = ["README.md", "labels.json", "model.json", "model.onnx", "model.safetensors"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]:
    images, labels = digits(200)
    reader = Reader(images)
    embedder = Embedder(load_backbone("pixels"), 8, cache=tmp_path_factory.mktemp("cache"))
    vectors = embedder.embed(reader, reader.ids, reader.hashes)
    feature_map = fit_feature_map(vectors[:, 0])
    head = fit_logistic(feature_map.transform(vectors[:, 0]), labels, n_classes=10)
    return EmbeddingClassifier([Branch(embedder.space("none"), feature_map, head)], CLASSES), vectors, images


def _save(folder: Path, classifier: EmbeddingClassifier, **extra: object) -> Path:
    save_bundle(
        folder,
        classifier,
        {"pixels": load_backbone("pixels")},
        classes=CLASSES,
        task="classification",
        card="# Digits\n\nA model of digits.",
        extra=extra,  # type: ignore[arg-type]
    )
    return folder


def test_there_and_back(tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]) -> None:
    classifier, vectors, images = fitted
    folder = _save(tmp_path / "model", classifier, rung="probe", pixel_scale=[10, 4000])
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    deployed = load_bundle(folder)
    assert (deployed.classes, deployed.task) == (tuple(CLASSES), "classification")
    assert deployed.meta["rung"] == "probe"
    assert deployed.pixel_scale is not None
    assert (deployed.pixel_scale.low, deployed.pixel_scale.high) == (10, 4000)
    features = {classifier.spaces[0].key: vectors}
    expected = classifier.predict_probs(features)
    np.testing.assert_array_equal(deployed.classifier().predict_probs(features), expected)
    np.testing.assert_allclose(deployed.predict_probs(images), expected, atol=2e-3)
    np.testing.assert_array_equal(deployed.predict_probs(images[:1])[0], deployed.predict_probs(images)[0])
    assert deployed.predict_probs([]).shape == (0, 10)
    assert deployed.backbones()["pixels"].weights_id == "pixels"
    with pytest.raises(DataError, match="image 0"):
        deployed.predict_probs([np.zeros((8, 8), np.uint8)])


def test_many_images_are_asked_about_in_order_with_few_in_memory(
    tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]
) -> None:
    classifier, _, images = fitted
    deployed = load_bundle(_save(tmp_path / "model", classifier))
    lock, alive, most = threading.Lock(), 0, 0

    def gone() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def read(number: int) -> Pixels | None:
        nonlocal alive, most
        if number == 7:
            return None
        image = images[number].copy()
        weakref.finalize(image, gone)
        with lock:
            alive += 1
            most = max(most, alive)
        return image

    found = list(deployed.stream(range(150), read))
    assert [number for number, _ in found] == list(range(150))
    assert [number for number, probs in found if probs is None] == [7]
    expected = deployed.predict_probs(images[:150])
    for number, probs in found:
        if probs is not None:
            np.testing.assert_array_equal(probs, expected[number])
    assert 1 <= most <= 2 * default_workers()
    with pytest.raises(DataError, match="an image has shape"):
        list(deployed.stream([0], lambda _: np.zeros((8, 8), np.uint8)))


def test_images_larger_than_the_room_go_through_the_model_one_by_one(
    tmp_path: Path,
    fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier, _, images = fitted
    deployed = load_bundle(_save(tmp_path / "model", classifier))
    monkeypatch.setattr(bundle, "default_workers", lambda: 4)
    lock, inside, most, real = threading.Lock(), 0, [], deployed._outputs

    def listen(image: Pixels, *how: object) -> list[np.ndarray]:
        nonlocal inside
        with lock:
            inside += 1
            most.append(inside)
        time.sleep(0.01)  # long enough for others to come in, were they let
        said = real(image, *how)
        with lock:
            inside -= 1
        return said

    monkeypatch.setattr(deployed, "_outputs", listen)
    assert len(list(deployed.stream(range(40), lambda n: images[n]))) == 40
    assert max(most) > 1
    most.clear()
    monkeypatch.setattr(bundle, "_VALUES", images[0].size - 1)
    assert len(list(deployed.stream(range(40), lambda n: images[n]))) == 40
    assert max(most) == 1


def test_no_more_threads_ask_than_the_process_may_use(
    tmp_path: Path,
    fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier, _, images = fitted
    deployed = load_bundle(_save(tmp_path / "model", classifier))
    monkeypatch.setattr(bundle, "cores", lambda: 1)
    asked: set[int] = set()
    real = deployed._outputs

    def listen(image: Pixels, *how: object) -> list[np.ndarray]:
        asked.add(threading.get_ident())
        return real(image, *how)

    monkeypatch.setattr(deployed, "_outputs", listen)
    deployed.predict_probs(images[:40])
    assert len(asked) == 1


def test_a_card_that_is_written_again_leaves_the_model_whole(
    tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]
) -> None:
    folder = _save(tmp_path / "model", fitted[0])
    write_card(folder, "# Better known now")
    text = (folder / "README.md").read_text()
    assert text.startswith("# Better known now")
    assert "## Use it" in text
    assert sorted(p.name for p in folder.iterdir()) == FILES
    load_bundle(folder)


def test_the_cards_snippet_works_with_onnxruntime_and_pillow_alone(
    tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]
) -> None:
    classifier, _, images = fitted
    folder = _save(tmp_path / "model", classifier)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# Digits")
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert snippet is not None
    Image.fromarray(images[3]).save(folder / "photo.jpg", quality=100)
    guard = "import sys; sys.modules['fallow'] = sys.modules['torch'] = None\n"
    command = [sys.executable, "-c", guard + snippet.group(1)]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert said.split()[0] == "3"


def test_saving_again_replaces_and_a_kill_in_between_loses_nothing(
    tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]
) -> None:
    folder = _save(tmp_path / "model", fitted[0], rung="probe")
    _save(folder, fitted[0], rung="propagate")
    assert load_bundle(folder).meta["rung"] == "propagate"
    folder.rename(tmp_path / ".model.old")  # what a kill between the two renames leaves
    (tmp_path / ".model.x.part").mkdir()
    assert load_bundle(folder).meta["rung"] == "propagate"
    assert not (tmp_path / ".model.old").exists()


@pytest.mark.parametrize("name", ["labels.json", "model.onnx", "model.safetensors", "model.json"])
def test_missing_and_damaged_files_are_named(
    tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]], name: str
) -> None:
    folder = _save(tmp_path / "model", fitted[0])
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2 :] = b""
    (folder / name).write_bytes(content)
    with pytest.raises(RunError, match=re.escape(str(folder / name))):
        load_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(RunError, match=re.escape(str(folder / name))):
        load_bundle(folder)


def test_a_folder_of_another_format_or_none_is_refused(
    tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]
) -> None:
    folder = _save(tmp_path / "model", fitted[0])
    meta = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(RunError, match="format 99"):
        load_bundle(folder)
    with pytest.raises(RunError, match="no model folder"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(RunError, match="same order"):
        save_bundle(tmp_path / "m", fitted[0], {}, classes=CLASSES[::-1], task="x", card="")


def test_a_failed_save_leaves_the_old_folder(
    tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]
) -> None:
    folder = _save(tmp_path / "model", fitted[0], rung="probe")
    with pytest.raises(RunError, match="is not there"):
        save_bundle(folder, fitted[0], {}, classes=CLASSES, task="classification", card="")
    assert load_bundle(folder).meta["rung"] == "probe"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_users_own_network_travels_as_onnx_and_tensors(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    reader = Reader(digits(40)[0])
    embedder = Embedder(backbone, 32, cache=tmp_path / "cache", device="cpu")
    vectors = embedder.embed(reader, reader.ids, reader.hashes, "flip")
    feature_map = fit_feature_map(vectors.mean(1))
    head = fit_logistic(feature_map.transform(vectors.mean(1)), digits(40)[1], n_classes=10)
    classifier = EmbeddingClassifier([Branch(embedder.space("flip"), feature_map, head)], CLASSES)
    folder = tmp_path / "model"
    save_bundle(
        folder,
        classifier,
        {"tiny": backbone},
        classes=CLASSES,
        task="classification",
        card="",
        cache=tmp_path / "cache" / "graphs",
    )
    deployed = load_bundle(folder)
    got = deployed.predict_probs(reader.images)
    np.testing.assert_allclose(got, classifier.predict_probs({classifier.spaces[0].key: vectors}), atol=5e-3)
    with pytest.raises(ConfigError, match="no backbone 'tiny'"):
        deployed.backbones()


@pytest.fixture(scope="module")
def trained() -> tuple[EmbeddingClassifier, dict[str, Backbone]]:
    """A vote of two networks of one architecture with other weights."""
    classifiers, backbones = [], {}
    for seed, name in enumerate(("a/small", "b/small")):
        started = create_backbone("small_resnet_8", size=16, mean=(0.4, 0.5, 0.6), seed=seed)
        network = from_backbone(started, torch.nn.Linear(started.dim, 10), 16)
        network(torch.rand(16, 3, 16, 16)).square().mean().backward()
        torch.optim.SGD(network.parameters(), lr=0.1).step()
        backbones[name] = to_backbone(network, name)
        classifiers.append(network_classifier(backbones[name], network.head, 16, CLASSES))
    branches = [branch for one in classifiers for branch in one.branches]
    return EmbeddingClassifier(branches, CLASSES, 0.7, [1, 2]), backbones


def test_trained_networks_come_back_under_their_names(
    tmp_path: Path, trained: tuple[EmbeddingClassifier, dict[str, Backbone]]
) -> None:
    classifier, backbones = trained
    folder = tmp_path / "model"
    save_bundle(folder, classifier, backbones, classes=CLASSES, task="classification", card="")
    deployed = load_bundle(folder)
    found = deployed.backbones()
    images = digits(30)[0]
    features = {}
    for name, backbone in backbones.items():
        again = found[name]
        assert again.weights_id == backbone.weights_id
        assert (again.architecture, again.trained) == (backbone.architecture, True)
        assert (again.mean, again.std, again.default_size) == (backbone.mean, backbone.std, 16)
        embedder = Embedder(again, 16, cache=tmp_path / "cache", device="cpu", eager=True)
        reader = Reader(images)
        features[embedder.space("none").key] = embedder.embed(reader, reader.ids, reader.hashes)
    assert not (tmp_path / "cache").exists()
    expected = deployed.classifier().predict_probs(features)
    np.testing.assert_allclose(expected, classifier.predict_probs(features), atol=1e-6)
    np.testing.assert_allclose(deployed.predict_probs(images), expected, atol=1e-3)


def test_bundles_that_do_not_name_architectures_are_still_read(
    tmp_path: Path, fitted: tuple[EmbeddingClassifier, np.ndarray, list[Pixels]]
) -> None:
    folder = _save(tmp_path / "model", fitted[0])
    meta = json.loads((folder / "model.json").read_text())
    del meta["backbones"]["pixels"]["architecture"]
    (folder / "model.json").write_text(json.dumps(meta))
    found = load_bundle(folder).backbones()["pixels"]
    assert (found.architecture, found.weights_id) == ("pixels", "pixels")
