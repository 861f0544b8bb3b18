"""Several processes label one pool: the same labels as one process makes, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fallow
from fallow.cli import main
from fallow.errors import ConfigError, RunError
from fallow.record import read_json, write_json
from fallow.study.labeling import company as meeting
from fallow.study.labeling import parts
from fallow.study.labeling.company import Company
from fallow.study.labeling.parts import Kept, answer_all, mapped, part_size
from fallow.study.latency import Answer
from fallow.study.outside import OutsideModel
from fallow.study.rung import ImageSet
from tests.photos import photos, put

OPTIONS: dict[str, Any] = {
    "budget": "60s",
    "offline": True,
    "embed": {"backbone": "pixels"},
    "input": {"size": 12},
    "coverage": 0.8,
    "show": "nothing",
}


def colors(images: Any) -> Any:
    """Name a photo by its strongest color; gives logits."""
    return 40 * images.mean((2, 3))


def fatal(images: Any) -> Any:
    """Name the images of one part, and be killed at the next."""
    if (here := Path(os.environ["MARK"])).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    here.touch()
    return colors(images)


OTHER = """
import sys
import fallow
from tests.verbs import test_label_together as here
data, out, model = sys.argv[1:]
made = fallow.label(data, out=out, model=getattr(here, model), **here.OPTIONS)
print(made.aside)
print(made.summary.sentence)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three easy classes: 4 labels each, 90 unlabeled in six parts."""
    root = tmp_path_factory.mktemp("together") / "photos"
    return photos(root, ("cat", "dog", "emu"), labeled=4, pool=90)


@pytest.fixture(scope="module")
def alone(data: Path) -> fallow.Labels:
    """What one process makes of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLOW_CACHE", str(data.parent / "cache"))
        return fallow.label(str(data), out=data.parent / "alone", model=colors, **OPTIONS)


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be the first of two."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")


def second(data: Path, out: Path, model: str) -> subprocess.Popen[str]:
    """Start the second process."""
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(data), str(out), model],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "RANK": "1", "MARK": str(out.parent / "mark")},
        stdout=subprocess.PIPE,
        text=True,
    )


def table(labels: fallow.Labels) -> bytes:
    return (labels.path / "labels.csv").read_bytes()


@pytest.mark.usefixtures("first_of_two")
def test_two_processes_make_the_labels_of_one_and_both_have_them(
    data: Path, alone: fallow.Labels, tmp_path: Path
) -> None:
    other = second(data, tmp_path / "labels", "colors")
    made = fallow.label(str(data), out=tmp_path / "labels", model=colors, **OPTIONS)
    said = other.communicate(timeout=300)[0].splitlines()
    assert other.returncode == 0
    assert table(made) == table(alone)
    assert said[0].startswith("process 1 of 2 named 48 images; process 0 writes the labels")
    assert said[1] == made.summary.sentence == alone.summary.sentence


@pytest.mark.usefixtures("first_of_two")
def test_after_a_kill_only_missing_parts_are_answered_and_the_labels_are_the_same(
    data: Path, alone: fallow.Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = second(data, tmp_path / "labels", "fatal")

    def stopped(self: Company, rank: int) -> bool:
        if other.poll() is not None:
            raise KeyboardInterrupt
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Company, "gone", stopped)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            fallow.label(str(data), out=tmp_path / "labels", model=colors, **OPTIONS)
    other.communicate()
    assert other.returncode == -signal.SIGKILL
    asked: list[int] = []

    def counted(images: Any) -> Any:
        asked.append(len(images))
        return colors(images)

    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name)
    made = fallow.label(str(data), out=tmp_path / "labels", model=counted, resume=True, show="nothing")
    assert sum(asked) == 48 - 16
    assert table(made) == table(alone)


@pytest.mark.usefixtures("first_of_two")
def test_the_first_process_answers_for_one_that_never_came_and_says_so(
    data: Path,
    alone: fallow.Labels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(meeting, "PATIENCE", 0.1)
    made = fallow.label(str(data), out=tmp_path / "labels", model=colors, **{**OPTIONS, "show": "lines"})
    assert table(made) == table(alone)
    assert "process 1 of 2 has ended or is silent: process 0 answers the 3 parts that it left" in " ".join(
        capsys.readouterr().err.split()
    )
    assert read_json(made.path / "processes" / "0.json")["state"] == "done"


@pytest.mark.usefixtures("first_of_two")
def test_several_processes_need_a_model_and_a_folder(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 were started.*--model FILE"):
        fallow.label(str(data), out=tmp_path / "labels", **OPTIONS)
    with pytest.raises(ConfigError, match=r"2 were started.*--model FILE"):
        fallow.label(str(data), out=tmp_path / "labels", model="resnet18", **OPTIONS)
    with pytest.raises(ConfigError, match="2 processes label together and need --out"):
        fallow.label(str(data), model=colors, **OPTIONS)
    assert not (tmp_path / "labels").exists()


@pytest.mark.usefixtures("first_of_two")
def test_a_run_in_which_nothing_was_computed_is_removed_by_the_first_of_several_too(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="not a int"):
        fallow.label(str(data), out=tmp_path / "labels", model=7, **OPTIONS)
    assert not (tmp_path / "labels").exists()


def test_a_process_above_the_first_prints_one_line_aside_and_ends_well(
    data: Path, alone: fallow.Labels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # the tests' own handlers stay
    main(
        ["label", str(data), "--model", "theirs.onnx", "--out", str(alone.path), "--json"]
    )  # exits with 0 if it returns
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"fallow: process 2 of 3 named 0 images; process 0 writes the labels to '{alone.path}'\n"
    )


def test_labeling_does_not_go_on_with_other_images(data: Path, tmp_path: Path) -> None:
    own = photos(tmp_path / "photos", ("cat", "dog", "emu"), labeled=2, pool=20)

    def stops(images: Any) -> Any:
        if len(images) < 16 and (tmp_path / "labels" / "answers" / "0-pool").exists():
            raise KeyboardInterrupt
        return colors(images)

    with pytest.raises(KeyboardInterrupt):
        fallow.label(str(own), out=tmp_path / "labels", model=stops, **OPTIONS)
    put(own / "unlabeled" / "0.png", 1)
    with pytest.raises(RunError, match="changed"):
        fallow.label(str(own), out=tmp_path / "labels", model=colors, resume=True, show="nothing")


# --- waiting for one another ----------------------------------------------------------------------------------------


def test_a_process_waits_for_the_first_and_takes_no_old_sign_of_it_for_a_new_one(tmp_path: Path) -> None:
    write_json(tmp_path / "processes" / "0.json", {"state": "answering", "beat": 9, "name": "of yesterday"})
    joined: list[bool] = []
    other = threading.Thread(
        target=lambda: joined.append(Company(tmp_path, 1, 2).join(tmp_path / "label.json"))
    )
    other.start()
    other.join(0.5)
    assert not joined
    first = Company(tmp_path, 0, 2)
    with first.leading():
        first.enter("answering")
        other.join(30)
    assert joined == [True]


def test_a_process_whose_first_has_ended_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "PATIENCE", 0.1)
    with pytest.raises(RunError, match="process 0 of 2"):
        Company(tmp_path, 1, 2).join(tmp_path / "label.json")
    (tmp_path / "label.json").touch()
    assert not Company(tmp_path, 1, 2).join(tmp_path / "label.json")


# --- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 16, 17, 1000, 65_536, 1_000_000])
def test_parts_are_whole_batches_and_as_many_as_processes_can_share(images: int) -> None:
    size = part_size(images)
    assert size % 16 == 0
    assert size <= 1024
    assert -(-images // size) >= min(64, images // 16) * 0.5


class Numbers(OutsideModel):
    """Says of an image its own number."""

    name, classes = "numbers", ("a", "b")

    def answers(self, images: ImageSet) -> Iterator[NDArray[np.float32]]:
        for name in images.ids:
            yield np.array([int(name), 0], np.float32)

    def alone(self) -> Answer:
        raise AssertionError("nobody times it")


def test_how_long_a_large_pool_will_take_is_told_once_it_can_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LARGE", 50)
    names = [str(i) for i in range(100)]
    images = ImageSet(names, names, lambda name: np.zeros((1, 1, 3), np.uint8))
    said: list[str] = []
    kept = Kept(Numbers(), images, tmp_path / "answers", "numbers")
    assert answer_all([kept], Company(tmp_path), tell=said.append) == 100
    assert len(said) == 1
    assert "the 84 images left to name take about" in said[0]
    again = answer_all([kept], Company(tmp_path), tell=said.append)
    assert (again, len(said)) == (0, 1)
    whole = mapped(tmp_path / "all.npy", (100, 2), (rows for _, rows in kept))
    assert isinstance(whole, np.memmap)
    np.testing.assert_array_equal(whole[:, 0], np.arange(100))


def test_a_torn_part_is_answered_again(tmp_path: Path) -> None:
    names = [str(i) for i in range(40)]
    images = ImageSet(names, names, lambda name: np.zeros((1, 1, 3), np.uint8))
    kept = Kept(Numbers(), images, tmp_path / "answers", "numbers")
    answer_all([kept], Company(tmp_path))
    file = tmp_path / "answers" / "000000016.npy"
    file.write_bytes(file.read_bytes()[:150])
    assert answer_all([kept], Company(tmp_path)) == 16
