"""Labels for a pool, from data to files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fallow
from fallow.config import LabelConfig
from fallow.errors import FallowError
from fallow.study.labeling import rounds
from tests.photos import photos, put, tiny

CLASSES = ("cat", "dog", "emu")


def label(data: object, out: Path | str, **options: Any) -> fallow.Labels:
    """Label in a second or two."""
    asked = {
        "budget": "60s",
        "offline": True,
        "embed": {"backbone": "pixels"},
        "choose": {"repeats": 1},
        "show": "nothing",
        **options,
    }
    return fallow.label(data, out=out, **asked)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three easy classes: 4 labels each, 30 unlabeled (cat, dog, emu in turn), 2 test images each."""
    return photos(tmp_path_factory.mktemp("label") / "photos", CLASSES, labeled=4, pool=30)


@pytest.fixture(scope="module")
def labeled(data: Path) -> fallow.Labels:
    """Labels of these photos; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLOW_CACHE", str(data.parent / "cache"))
        return label(str(data), data.parent / "labels", coverage=0.8, format="folders,huggingface")


def colors(images: torch.Tensor) -> torch.Tensor:
    """Name a photo by its strongest color: a model that is right on all of them; gives logits."""
    return 40 * images.mean((2, 3))


def test_the_unlabeled_images_are_labeled_and_no_test_image_is(labeled: fallow.Labels, data: Path) -> None:
    rows = list(csv.DictReader((labeled.path / "labels.csv").open(encoding="utf-8")))
    assert sorted(row["path"] for row in rows) == sorted(f"unlabeled/{i}.png" for i in range(30))
    right = [row["label"] == CLASSES[int(row["path"][10:-4]) % 3] for row in rows]
    assert np.mean(right) > 0.9
    assert sum(row["verdict"] == "accept" for row in rows) == 24 == labeled.summary.accepted
    assert all((float(row["weight"]) > 0) == (row["verdict"] == "accept") for row in rows)
    assert not (labeled.path / "test_reads.jsonl").exists()


def test_the_summary_says_what_was_asked_and_how_good_the_labels_are(labeled: fallow.Labels) -> None:
    found = json.loads((labeled.path / "label.json").read_text())
    assert found["asked"] == {"coverage": 0.8}
    assert set(found["precision"]) == {"value", "low", "high", "level", "n"}
    assert found["precision"]["low"] <= found["precision"]["value"] <= found["precision"]["high"]
    assert (found["accepted"], found["coverage"], found["labels"]) == (24, 0.8, 12)
    assert set(found["per_class"]) == set(CLASSES)
    assert sum(one["accepted"] for one in found["per_class"].values()) == 24
    assert found["sentence"] in labeled.report.read_text(encoding="utf-8").replace("\xa0", " ")
    assert labeled.screen().startswith(found["sentence"])
    assert labeled.to_json()["run"] == str(labeled.path)


def test_labels_loaded_another_day_are_the_same_and_make_the_same_data_set(labeled: fallow.Labels) -> None:
    again = fallow.load_labels(labeled.path)
    assert again.summary == labeled.summary
    first, second = labeled.dataset(), again.dataset()
    assert (len(first), first.ids) == (12 + 24, second.ids)
    torch.testing.assert_close(first[-1], second[-1])
    assert again.write("label-studio")[-1].name == "label-studio.json"


def test_the_enriched_folders_are_a_data_set_that_train_takes(
    labeled: fallow.Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path / "cache"))
    run = fallow.train(
        str(labeled.path / "folders"), out=tmp_path / "run", budget="30s", rungs="probe", offline=True,
        embed={"backbone": "pixels"}, show="nothing",
    )  # fmt: skip
    assert run.study.counts.labeled == 36
    assert run.study.counts.unlabeled == 6


def test_the_same_seed_labels_alike(labeled: fallow.Labels, data: Path, tmp_path: Path) -> None:
    again = label(str(data), tmp_path / "labels", coverage=0.8)
    for name in ("ids", "classes"):
        assert getattr(again.pool, name) == getattr(labeled.pool, name)
    for name in ("probs", "probability", "agreement", "ood_score", "verdict"):
        np.testing.assert_array_equal(getattr(again.pool, name), getattr(labeled.pool, name))


def test_a_precision_that_no_label_reaches_accepts_nothing_and_says_why(data: Path, tmp_path: Path) -> None:
    found = label(str(data), tmp_path / "labels", precision=0.9999)
    assert found.summary.accepted == 0
    assert found.summary.precision is None
    assert "no label reaches a precision of 0.9999" in found.summary.sentence
    assert len(found.dataset()) == 12


def test_few_labels_certify_nothing(data: Path, tmp_path: Path) -> None:
    found = label(str(data), tmp_path / "labels", precision=0.95, certify=True)
    assert found.summary.accepted == 0
    assert "not certifiable with 12 held-out labels" in found.summary.sentence


def test_rounds_are_told_one_by_one_and_a_stopped_run_ends_as_an_uninterrupted_one(
    labeled: fallow.Labels, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "rounds" not in json.loads((labeled.path / "label.json").read_text())
    assert "Round by round" not in labeled.report.read_text(encoding="utf-8")
    whole = label(str(data), tmp_path / "whole", coverage=0.5, rounds=2)
    told = json.loads((whole.path / "label.json").read_text())["rounds"]
    assert [one["number"] for one in told] == [1, 2]
    assert told[0]["kept"]
    assert {"accepted", "precision", "held_out", "kept", "why"} < set(told[0])
    last = told[1] if told[1]["kept"] else told[0]
    assert (last["accepted"], last["precision"]["value"]) == (15, whole.summary.precision.value)  # type: ignore[union-attr]
    assert fallow.load_labels(whole.path).summary == whole.summary
    assert f" round 2, {'kept' if told[1]['kept'] else 'dropped'}: 15 accepted" in whole.screen()
    assert "Round by round" in whole.report.read_text(encoding="utf-8")
    asked: list[str] = []
    real = rounds.held_out_rounds

    def stops(ctx: Any, best: str, fold: Any, config: Any) -> Any:
        for probs in real(ctx, best, fold, config):
            asked.append(fold.key)
            if len(asked) == 3:
                raise KeyboardInterrupt
            yield probs

    monkeypatch.setattr(rounds, "held_out_rounds", stops)
    with pytest.raises(KeyboardInterrupt, match="go on with"):
        label(str(data), tmp_path / "cut", coverage=0.5, rounds=2)
    found = label(str(data), tmp_path / "cut", coverage=0.5, rounds=2, resume=True)
    assert len(asked) == len(set(asked)) + 1  # the fold that was stopped, and no other, twice
    for name in ("labels.csv", "out_of_fold.parquet"):
        assert (found.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert found.summary.rounds == whole.summary.rounds


def test_rounds_are_refused_with_a_model_that_is_not_made_here(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FallowError, match="rounds=2 goes with the model that is made of your labels"):
        label(str(data), tmp_path / "labels", model=colors, rounds=2)
    assert not (tmp_path / "labels").exists()


def test_nothing_accepted_teaches_nothing(data: Path, tmp_path: Path) -> None:
    found = label(str(data), tmp_path / "labels", precision=0.9999, rounds=2)
    assert [one.kept for one in found.summary.rounds] == [True, False]
    assert "nothing to learn from" in found.summary.rounds[1].why


def test_one_label_a_class_measures_nothing_and_promises_nothing(tmp_path: Path) -> None:
    data = photos(tmp_path / "photos", CLASSES, labeled=1, pool=12, test=0)
    nothing = label(str(data), tmp_path / "a")
    assert nothing.summary.accepted == 0
    assert "no label could be held out" in nothing.summary.sentence
    half = label(str(data), tmp_path / "b", coverage=0.5)
    assert (half.summary.accepted, half.summary.precision) == (6, None)
    assert "could not be measured" in half.summary.sentence


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_a_function_labels_and_what_it_gives_is_seen(data: Path, tmp_path: Path, outputs: str) -> None:
    def model(images: torch.Tensor) -> torch.Tensor:
        return colors(images) if outputs == "logits" else colors(images).softmax(1)

    found = label(str(data), tmp_path / "labels", model=model, coverage=1.0, input={"size": 12})
    assert [found.pool.label(row) for row in range(30)] == [
        CLASSES[int(i[10:-4]) % 3] for i in found.pool.ids
    ]
    kept = json.loads((found.path / "decisions.json").read_text())
    assert {d["value"] for d in kept if d["name"] == "label.outputs.0"} == {outputs}
    assert "taken to be new" in found.summary.notes[0]


class Net(nn.Module):
    """A network that names a photo by its strongest color."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return colors(images)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "theirs.onnx"
    torch.onnx.export(Net().eval(), (torch.zeros(1, 3, 12, 12),), path, dynamo=True, verbose=False)
    return path


def test_an_onnx_file_labels_with_the_names_beside_it(data: Path, onnx: Path, tmp_path: Path) -> None:
    (onnx.parent / "labels.json").write_text(json.dumps(["cat", "dog", "emu"]))
    found = label(str(data), tmp_path / "labels", model=str(onnx), coverage=1.0)
    assert found.summary.models == (str(onnx),)
    assert [found.pool.label(row) for row in range(30)] == [
        CLASSES[int(i[10:-4]) % 3] for i in found.pool.ids
    ]


def test_several_models_vote_and_their_agreement_is_told(data: Path, onnx: Path, tmp_path: Path) -> None:
    def always_cat(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.5, 0.3, 0.2]]).expand(len(images), 3)

    found = label(
        str(data),
        tmp_path / "labels",
        model=[onnx, always_cat],
        coverage=1.0,
        input={"size": 12},
        classes=_names(tmp_path),
    )
    assert (
        np.mean([found.pool.label(row) == CLASSES[int(i[10:-4]) % 3] for row, i in enumerate(found.pool.ids)])
        > 0.9
    )
    cats = found.pool.guess == 0
    assert found.pool.agreement[cats].min() > found.pool.agreement[~cats].max() - 0.5
    assert found.pool.agreement[cats].mean() > found.pool.agreement[~cats].mean()


def _names(folder: Path) -> Path:
    (folder / "names.txt").write_text("cat\ndog\nemu\n")
    return folder / "names.txt"


def test_labels_that_a_run_has_learned_from_count_where_it_held_them_out(
    trained: fallow.Result, tmp_path: Path
) -> None:
    data = trained.path.parent / "photos"
    found = label(str(data), tmp_path / "labels", model=trained.path, coverage=0.5)
    where = found.summary
    assert where.labels == 9  # all of them, from the run's own folds
    assert where.notes == ()
    assert where.accepted == 4
    fresh = photos(tmp_path / "fresh", CLASSES, labeled=2, pool=6, test=0)
    more = label(str(fresh), tmp_path / "more", model=trained.path, coverage=0.5)
    assert more.summary.labels == 9 + 6  # and those that are new to it


def test_a_run_labels_images_that_come_without_any_label(trained: fallow.Result, tmp_path: Path) -> None:
    for number in range(6):
        put(tmp_path / "heap" / f"{number}.png", number % 3)
    found = label(str(tmp_path / "heap"), tmp_path / "labels", model=str(trained.path), coverage=1.0)
    assert [found.pool.label(row) for row in range(6)] == [CLASSES[row % 3] for row in range(6)]
    assert found.summary.labels == 9
    assert np.isnan(found.pool.ood_score).all()


def test_a_model_folder_alone_says_that_nobody_knows_what_it_has_learned_from(
    trained: fallow.Result, tmp_path: Path
) -> None:
    found = label(
        str(trained.path.parent / "photos"),
        tmp_path / "labels",
        model=str(trained.path / "model"),
        coverage=0.5,
    )
    assert "taken to be new" in found.summary.notes[0]


def test_arrays_are_labeled_and_come_back_as_a_data_set(tmp_path: Path) -> None:
    images = np.stack([tiny(i % 2, seed=i) for i in range(24)])
    labels = np.array([i % 2 for i in range(24)])
    found = label(
        (images[:8], labels[:8]), tmp_path / "labels", unlabeled=images[8:], coverage=1.0, format="folders"
    )
    assert set(found.pool.ids) == {f"array:unlabeled:{i}" for i in range(16)}
    assert (
        np.mean(
            [
                int(found.pool.label(row)) == labels[8 + int(i.rsplit(":")[-1])]
                for row, i in enumerate(found.pool.ids)
            ]
        )
        > 0.9
    )
    assert len(found.dataset()) == 24
    assert len(list((found.path / "folders" / "train").rglob("*.png"))) == 24


def test_a_stopped_labeling_goes_on_and_ends_as_an_uninterrupted_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return colors(images)

    monkeypatch.setattr("fallow.study.labeling.parts._LEAST", 8)
    options = {"model": model, "coverage": 0.5, "input": {"size": 12}}
    whole = label(str(data), tmp_path / "whole", **options)
    everything = sum(asked)

    def stops(images: torch.Tensor) -> torch.Tensor:
        if sum(asked) >= everything + 24:
            raise KeyboardInterrupt
        return model(images)

    with pytest.raises(KeyboardInterrupt, match="go on with"):
        label(str(data), tmp_path / "cut", **{**options, "model": stops})
    before = sum(asked)
    found = fallow.label(str(data), out=tmp_path / "cut", model=model, resume=True, show="nothing")
    assert sum(asked) - before < everything - 16
    for name in ("probs", "probability", "verdict"):
        np.testing.assert_array_equal(getattr(found.pool, name), getattr(whole.pool, name))
    assert (tmp_path / "cut" / "labels.csv").read_bytes() == (tmp_path / "whole" / "labels.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": "nowhere/run"}, "'nowhere/run' is no model that can be asked"),
        ({"model": lambda images: torch.zeros(len(images), 5)}, "there are 3 classes"),
        ({"model": lambda images: 1 / 0}, "failed on a batch"),
        ({"model": lambda images: torch.full((len(images), 3), float("nan"))}, "not finite"),
        ({"model": 7}, "not a int"),
        ({"model": ["resnet18", colors]}, "knows none of your classes"),
        ({"precision": 0.9, "coverage": 0.5}, "one of the two"),
        ({"coverage": 0.5, "certify": True}, "goes with a precision"),
        ({"format": "cocoa"}, "Did you mean 'coco'"),
        ({"model": colors, "classes": "missing.txt"}, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(
    data: Path, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(FallowError, match=sentence):
        label(str(data), tmp_path / "labels", **options)
    assert not (tmp_path / "labels" / "label.json").exists()


def test_data_without_unlabeled_images_are_told(tmp_path: Path) -> None:
    data = photos(tmp_path / "photos", CLASSES, pool=0)
    with pytest.raises(FallowError, match="no unlabeled images to label"):
        label(str(data), tmp_path / "labels")


def test_classes_that_a_model_does_not_know_are_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\nfox\n")
    with pytest.raises(FallowError, match="the class 'emu' of the labels given is none of"):
        label(
            str(data), tmp_path / "labels", model=colors, classes=tmp_path / "names.txt", input={"size": 12}
        )


def test_a_timm_name_is_the_network_that_the_cheap_rungs_look_through() -> None:
    config = LabelConfig(model="resnet18")
    assert config.backbones == ("resnet18",)
    assert config.ladder().embed.backbone == "resnet18"
    assert LabelConfig(model="theirs.onnx").backbones == ()
