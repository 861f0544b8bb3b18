"""Features judged from a folder to a table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import fallow
from fallow.data import audit, open_source
from fallow.errors import ConfigError, DataError, RunError
from fallow.export.backbone import save_backbone
from fallow.models import create_backbone
from tests.photos import photos, put, tiny

KEYS = ["knn@20", "linear", "low-shot@1", "NMI", "ARI", "purity", "silhouette", "recall@1", "mAP"]


class Colors(nn.Module):
    """A network that says of an image its mean colors."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x.mean((2, 3))


class Blind(nn.Module):
    """A network that says of an image nothing that tells its class: by how much two of its pixels differ."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x[:, :, 3, 3] - x[:, :, 4, 4]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("probe") / "data", classes=("cat", "dog", "emu"), labeled=6, test=4)


def test_a_test_split_is_judged_and_each_figure_says_on_what(data: Path, tmp_path: Path) -> None:
    found = fallow.evaluate("pixels", str(data), out=tmp_path / "out")
    assert isinstance(found, fallow.Probed)
    names = [figure.name for figure in found.record.figures]
    assert [key for key in KEYS if key not in names] == []
    assert found["linear"].n == found.record.judged == 12
    assert found.record.figure("linear").learned == 18
    assert found["linear"].low <= found["linear"].value <= found["linear"].high
    kept = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert kept == json.loads(json.dumps(found.to_json()))
    page = (tmp_path / "out" / "probe.html").read_text()
    for figure in found.record.figures:
        assert figure.title in page
        assert figure.title in found.screen()
    assert "12 images of test/" in found.screen()


def test_without_a_test_split_folds_are_dealt_again_and_again(data: Path) -> None:
    found = fallow.probe("pixels", str(data / "train"), protocols="knn,linear")
    assert found.record.judged == found.record.labeled == 18
    assert found.record.figure("linear").spread is not None
    assert found.record.figure("linear").draws >= 3
    assert "folds" in found.record.judged_on
    trained = fallow.probe("pixels", str(data), protocols="linear", split="train")
    assert trained["linear"].value == found["linear"].value


def test_of_two_backbones_the_better_one_is_named_with_the_paired_difference(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", classes=("cat", "dog", "emu"), labeled=20, pool=0, test=0)
    found = fallow.probe(Colors(), str(data), against=Blind(), size=12, protocols="knn,linear,clusters")
    assert found.record.sentence.startswith("Better than Blind: linear probe +")
    difference = found.difference("linear")
    assert difference is not None
    assert difference.low > 0
    alone = fallow.probe(Blind(), str(data), size=12, protocols="knn,linear,clusters")
    assert found.record.figure("linear").against == alone["linear"]
    assert difference.value == pytest.approx(found["linear"].value - alone["linear"].value, abs=1e-9)
    turned = fallow.probe(Blind(), str(data), against=Colors(), size=12, protocols="linear")
    assert turned.record.sentence.startswith("Worse than Colors")
    same = fallow.probe(Colors(), str(data), against=Colors(), size=12, protocols="linear")
    assert same.record.sentence.startswith("No difference to Colors that can be shown")


def test_copies_of_judged_images_are_not_learned_from_and_that_is_said(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", labeled=5, test=3)
    shutil.copy(data / "test" / "cat" / "0.png", data / "train" / "cat" / "copy.png")
    found = fallow.probe("pixels", str(data), protocols="linear")
    assert found.record.figure("linear").learned == 10
    assert any("1 image left out" in note for note in found.record.notes)


def test_arrays_and_a_network_of_ones_own_are_judged(tmp_path: Path) -> None:
    x = np.stack([tiny(i % 2) for i in range(30)])
    y = np.arange(30) % 2
    found = fallow.probe(Colors(), (x[:20], y[:20]), test=(x[20:], y[20:]), size=12, protocols="linear")
    assert (found["linear"].n, found["linear"].value) == (10, 1.0)


def test_the_features_of_a_trained_run_are_those_its_model_reads(trained: fallow.Result) -> None:
    data = str(trained.path.parent / "photos")
    run = fallow.evaluate(trained.path, data, probe="linear,knn")
    pixels = fallow.evaluate("pixels", data, probe="linear,knn")
    assert isinstance(run, fallow.Probed)
    assert isinstance(pixels, fallow.Probed)
    assert run["knn@20"] == pixels["knn@20"]
    assert isinstance(fallow.evaluate(trained.path, data), fallow.Evaluation)


def test_judged_images_that_a_pretraining_run_learned_from_are_counted_and_said(
    data: Path, tmp_path: Path
) -> None:
    backbone = create_backbone("small_resnet_16", size=12, seed=1)
    save_backbone(tmp_path / "run" / "model", backbone, card="# A run")
    audit(open_source(str(data))).table.write(tmp_path / "run" / "splits.parquet")
    on_test = fallow.evaluate(tmp_path / "run", str(data), probe="knn")
    on_folds = fallow.evaluate(
        tmp_path / "run", str(data), probe="knn", split="train", against="small_resnet_16"
    )
    assert isinstance(on_test, fallow.Probed)
    assert isinstance(on_folds, fallow.Probed)
    assert on_test.record.notes == ()
    assert any("18 of the 18 judged images are of the data of the run" in n for n in on_folds.record.notes)
    assert on_test.record.network.sizes == (12,)
    assert on_folds.record.against is not None
    assert on_folds.record.against.sizes == (12,)  # the side of the run, so that the two are compared fairly


def test_the_number_of_images_is_bounded_class_by_class(data: Path) -> None:
    found = fallow.probe("pixels", str(data / "train"), protocols="knn", images=12)
    assert (found.record.judged, found.record.chance) == (12, pytest.approx(1 / 3))
    assert any("12 of 18 labeled images took part" in note for note in found.record.notes)


def test_what_cannot_be_judged_is_refused_in_a_sentence(
    data: Path, trained: fallow.Result, tmp_path: Path
) -> None:
    lonely = photos(tmp_path / "lonely", pool=0, test=0)
    put(lonely / "train" / "yak" / "only.png", 2)
    with pytest.raises(DataError, match=r"'yak' in .* has one image"):
        fallow.probe("pixels", str(lonely))
    with pytest.raises(DataError, match="labels are missing"):
        fallow.probe("pixels", str(data / "unlabeled"))
    with pytest.raises(DataError, match="no labeled images in val: give --split train, test"):
        fallow.probe("pixels", str(data), split="val")
    with pytest.raises(ConfigError, match=r"'knnn' is not a protocol.*Did you mean 'knn'"):
        fallow.evaluate("pixels", str(data), probe="knnn")
    with pytest.raises(RunError, match=r"neither a run nor a backbone.*Did you mean 'resnet18'"):
        fallow.evaluate("resnet188", str(data))
    with pytest.raises(ConfigError, match=r"--out is about features.*--probe"):
        fallow.evaluate(trained.path, str(data), out=tmp_path / "no")
    with pytest.raises(ConfigError, match="takes a network"):
        fallow.probe(3, str(data))  # type: ignore[arg-type]
    assert not (tmp_path / "no").exists()


def test_a_run_that_fails_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        fallow.probe("pixels", str(data / "unlabeled"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_are_shown_as_text_on_the_page(tmp_path: Path) -> None:
    data = photos(tmp_path / "<b>x", labeled=4, test=2)
    fallow.probe("pixels", str(data), protocols="knn", out=tmp_path / "out")
    page = (tmp_path / "out" / "probe.html").read_text()
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page


def test_fine_tuning_learns_from_parts_of_the_labels_and_is_refused_where_there_is_nothing_to_train(
    tmp_path: Path,
) -> None:
    data = photos(tmp_path / "data", classes=("cat", "dog", "emu"), labeled=20, pool=0, test=8)
    shutil.copy(data / "test" / "cat" / "0.png", data / "train" / "cat" / "copy.png")
    found = fallow.probe("small_resnet_16", str(data), protocols="finetune", steps=40)
    learned = {figure.name: figure.learned for figure in found.record.figures}
    # 1 % of the labels would be the same one image of each class, which is trained on once.
    assert learned == {"finetune@1": 3, "finetune@10": 6, "finetune@100": 60}
    assert found["finetune@100"].n == 24
    assert found["finetune@100"].value > 0.8
    again = fallow.probe("small_resnet_16", str(data), protocols="finetune", steps=40)
    assert [f.value for f in again.record.figures] == [f.value for f in found.record.figures]
    with pytest.raises(ConfigError, match="'pixels' is not one network that could be trained further"):
        fallow.probe("pixels", str(data), protocols="finetune")
