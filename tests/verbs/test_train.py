"""Every way in that data can take, and what a run says when there is little of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import fallow
from fallow.config import LabelConfig, TrainConfig
from fallow.errors import ConfigError
from fallow.record import note_elapsed
from fallow.report import LiveLadder
from fallow.verbs.runs import Call
from tests.photos import photos, put, tiny
from tests.verbs.conftest import quick


def _pictures(kinds: list[int]) -> np.ndarray:
    return np.stack([tiny(kind) for kind in kinds])


def test_arrays_train(tmp_path: Path) -> None:
    labels = [0, 0, 0, 1, 1, 1]
    result = quick(
        (_pictures(labels), labels),
        tmp_path / "run",
        unlabeled=_pictures([0, 1] * 4),
        test=(_pictures([0, 1]), [0, 1]),
    )
    counts = result.study.counts
    assert (counts.labeled, counts.unlabeled, counts.test, counts.classes) == (6, 8, 2, 2)
    assert [p.label for p in result.predict(_pictures([1, 0, 1]))] == ["1", "0", "1"]


class Photos(Dataset[tuple[torch.Tensor, int]]):
    """A torch data set as people write them: float tensors with channels first."""

    def __init__(self, kinds: list[int]) -> None:
        self.kinds = kinds
        self.images = torch.from_numpy(_pictures(kinds)).permute(0, 3, 1, 2).float() / 255

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], self.kinds[index]


def test_a_torch_data_set_trains(tmp_path: Path) -> None:
    result = quick(
        Photos([0, 0, 0, 2, 2, 2]), tmp_path / "run", unlabeled=Photos([0, 2] * 3), test=Photos([0, 2])
    )
    assert result.study.counts.unlabeled == 6
    assert result.model.classes == ("0", "2")
    assert result.study.chosen.test == 1.0


def test_two_classes_are_a_binary_task_and_three_are_not(tmp_path: Path, trained: fallow.Result) -> None:
    assert quick(photos(tmp_path / "data"), tmp_path / "run").study.task == "binary"
    assert trained.study.task == "classification"


def test_a_validation_split_is_what_is_held_out_and_joins_the_labels(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", labeled=4)
    for kind, name in enumerate(("cat", "dog")):
        for i in range(3):
            put(data / "valid" / name / f"{i}.png", kind)
    result = quick(data, tmp_path / "run")
    assert (result.study.counts.labeled, result.study.counts.validation) == (14, 6)
    assert result.study.chosen.held_out is not None
    assert result.study.chosen.held_out.n == 6
    assert [d.value for d in result.decisions if d.name == "choose.held_out"] == ["validation"]


def test_without_unlabeled_images_labels_alone_are_used_and_the_verdict_says_so(tmp_path: Path) -> None:
    result = quick(photos(tmp_path / "data", pool=0), tmp_path / "run")
    assert [rung.rung for rung in result.study.rungs] == ["probe"]
    assert "no unlabeled images" in result.verdict


def test_without_a_test_split_only_held_out_figures_are_given(tmp_path: Path) -> None:
    result = quick(photos(tmp_path / "data", test=0), tmp_path / "run")
    assert result.study.chosen.test is None
    assert result.study.chosen.held_out is not None
    assert not result.run.test_reads.exists()
    assert "test image" not in result.verdict


def test_with_one_label_a_class_nothing_is_measured_and_the_verdict_says_so(tmp_path: Path) -> None:
    result = quick(photos(tmp_path / "data", labeled=1, test=0), tmp_path / "run")
    assert all(rung.held_out is None for rung in result.study.rungs)
    assert result.study.chosen.rung == "propagate"
    assert "one label in a class" in result.verdict
    assert not result.study.claim


def test_the_files_of_a_run_can_be_read_by_others(trained: fallow.Result) -> None:
    files = [path for path in trained.path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path.name for path in files if path.stat().st_mode & 0o044 != 0o044] == []


def test_a_wrong_option_in_python_is_named_like_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(fallow.FallowError, match=r"unknown key 'bugdet'.*'budget'"):
        fallow.train(photos(tmp_path / "data"), bugdet="1m")


def test_a_finished_run_is_loaded_and_an_unfinished_one_is_named(
    trained: fallow.Result, tmp_path: Path
) -> None:
    again = fallow.load(trained.path)
    assert again.verdict == trained.verdict
    assert again.report.is_file()
    with pytest.raises(fallow.FallowError, match="not a run"):
        fallow.load(tmp_path)


def test_a_run_goes_on_with_the_same_data_however_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "photos")
    quick("photos", Path("run"))
    for again in ("photos/", "./photos", tmp_path / "photos"):
        Path("run/result.json").unlink()
        quick(again, Path("run"), resume=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("../run/result.json").unlink()
    assert quick("../photos", Path("../run"), resume=True).study.counts.labeled
    Path("../run/result.json").unlink()
    with pytest.raises(fallow.FallowError, match=r"started on 'photos', not on '\.\./others'"):
        quick("../others", Path("../run"), resume=True)


def test_the_screen_names_the_data_as_they_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(LiveLadder, "start", lambda self, data, counts=None: told.append(data))
    photos(tmp_path / "photos")
    quick("./photos", Path("run"))
    assert told == ["./photos"]


def test_screen_and_budget_count_from_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verbs.runs.process_age", lambda: 40.0)
    data = photos(tmp_path / "data")
    call = Call(
        "train",
        TrainConfig,
        data,
        {},
        resume=False,
        show="nothing",
        from_process_start=True,
        left=lambda run, where: "",
    )
    run, asked = call.open({"out": tmp_path / "run"})
    note_elapsed(run.path, "plan", 60.0)  # by the run that this one goes on from
    with replace(call, resume=True).work(run, asked) as work:
        assert 100 <= work.clock.elapsed < 110
        assert "1 min 4" in work.screen._now()[1].plain


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ({"a": 1}, {}, "type dict"),
        (([tiny(0), tiny(1)], [0, 1]), {}, "np.stack"),
        ((np.zeros((6, 12, 12, 2), np.uint8), [0, 1] * 3), {}, r"\(6, 12, 12, 2\)"),
        ((_pictures([0, 1]), [0, 1, 1]), {}, "2 images and 3 labels"),
        ((_pictures([0, 1]).astype(float), [0, 1]), {}, "scale them"),
        ((np.full((2, 12, 12), np.nan, np.float32), [0, 1]), {}, "not finite"),
        ((_pictures([0, 1]), [0, 0]), {}, "one class only"),
        ((_pictures([0, 1]), [0, 1]), {"val": _pictures([0])}, "pair"),
        ((_pictures([0, 1]), [0, 1]), {"model": "resnet18"}, "backbone"),
    ],
)
def test_what_python_code_gets_wrong_is_said_and_leaves_no_run(
    tmp_path: Path, data: object, options: dict[str, object], said: str
) -> None:
    with pytest.raises(fallow.FallowError, match=said):
        quick(data, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_what_was_given_to_it_as_an_object_and_not_without(tmp_path: Path) -> None:
    data, out = photos(tmp_path / "data"), {"out": tmp_path / "run"}
    left, model = (lambda run, where: ""), [nn.Linear(2, 2)]
    call = Call("label", LabelConfig, data, {}, False, "nothing", False, left, {"model": model})
    call.open(out)[0].release()
    for given in ({}, {"model": [nn.Identity()]}, {"model": [*model, *model]}):
        with pytest.raises(ConfigError, match="was started with Linear of your program as model="):
            replace(call, resume=True, objects=given).open(out)
    with pytest.raises(ConfigError, match="was started with nothing of your program as extra="):
        replace(call, resume=True, objects={"model": model, "extra": [0]}).open(out)
    replace(call, resume=True).open(out)[0].release()
