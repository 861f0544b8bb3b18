"""Labeled images of another origin are worth what they are on held-out labels, and cost nothing where they harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import fallow
import fallow.study.leave
from fallow.cli import main
from fallow.data import WithExtra, audit, open_source
from fallow.errors import ConfigError, RunError
from fallow.record import DecisionLog
from fallow.study import Fold
from fallow.study.context import RungContext
from fallow.study.data import StudyData, plan_folds
from tests.study.digits import assert_same, context, decisions, figures, fit, hasten, train, write_digits

DIGITS = tuple(range(10))
SEED, FIRST = 1, 60
"""The draw, and the place in it from which extra images are taken: the data hold none of these."""


def write_extra(folder: Path, each: int = 8, wrong: bool = False) -> Path:
    """Write ``each`` images a class that are none of the data's, under their class or under another."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for digit in DIGITS:
        members = np.random.default_rng([SEED, digit]).permutation(np.flatnonzero(digits.target == digit))
        for position, index in enumerate(members[FIRST : FIRST + each]):
            place = folder / str((digit + 1 + position % 9) % 10 if wrong else digit)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(place / f"{index:04d}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("extra")
    sizes = {"pool": 10, "test": 20, "classes": DIGITS, "seed": SEED}
    return {
        "four": write_digits(root / "four", labels=4, pool=4, test=1, classes=DIGITS, seed=SEED),  # type: ignore[arg-type]
        "two": write_digits(root / "two", labels=2, **sizes),  # type: ignore[arg-type]
        "right": write_extra(root / "right"),
        "wrong": write_extra(root / "wrong", wrong=True),
        "cache": root / "cache",
    }


def with_extra(folders: dict[str, Path], data: str, extra: str) -> tuple[RungContext, RungContext]:
    """Return what rungs look at without extra images and with them."""
    alone = context(folders[data], folders["cache"])
    source = WithExtra(open_source(str(folders[data])), open_source(str(folders[extra])))
    made = StudyData.build(audit(source), 0, DecisionLog())
    return alone, replace(alone, data=made, decisions=DecisionLog(), scratch={})


def state(ctx: RungContext, rung: str, fold: Fold | None = None) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in fit(ctx, fold, rung).state()[0].items()}


def accuracy(ctx: RungContext, rung: str) -> float:
    said = fit(ctx, None, rung).predict(ctx.data.images(ctx.data.test_ids)).probs.numpy()
    return float((said.argmax(1) == ctx.data.test_classes()).mean())


def test_extra_images_of_the_same_kind_are_used_and_make_the_model_better(folders: dict[str, Path]) -> None:
    alone, ctx = with_extra(folders, "two", "right")
    assert accuracy(ctx, "blend") > accuracy(alone, "probe") + 0.05
    made = ctx.decisions.get("extra.weight")
    assert made is not None
    assert made.source == "search"
    assert made.value in (0.1, 0.3, 1.0, 3.0)
    assert state(ctx, "propagate") != state(alone, "propagate")
    # What labels alone give is the same to the bit: the opponent knows nothing of extra images.
    for fold in (None, plan_folds(ctx.data, ctx.config.choose, 0, DecisionLog())[0]):
        assert state(ctx, "probe", fold) == state(alone, "probe", fold)


@pytest.mark.parametrize("data", ["four", "two"])
def test_extra_images_with_wrong_labels_are_left_out_and_cost_nothing(
    data: str, folders: dict[str, Path]
) -> None:
    alone, ctx = with_extra(folders, data, "wrong")
    fold = plan_folds(ctx.data, ctx.config.choose, 0, DecisionLog())[0]
    for part in (None, fold):
        assert state(ctx, "blend", part) == state(alone, "probe", part)
        assert state(ctx, "propagate", part) == state(alone, "propagate", part)
    made = ctx.decisions.get("extra.weight")
    assert made is not None
    assert made.value == 0.0


@pytest.mark.parametrize("data", ["four", "two"])
def test_the_held_out_labels_of_a_fold_do_not_say_what_extra_images_count_in_it(
    data: str, folders: dict[str, Path]
) -> None:
    _, ctx = with_extra(folders, data, "right")
    for fold in plan_folds(ctx.data, ctx.config.choose, 0, DecisionLog())[:2]:
        y = ctx.data.y.copy()
        y[fold.held_out] = (y[fold.held_out] + 1) % len(DIGITS)
        other = replace(ctx, data=replace(ctx.data, y=y), scratch={})
        for rung in ("blend", "propagate"):
            assert state(ctx, rung, fold) == state(other, rung, fold)
        assert ctx.scratch[fold.key, "extra.weight"] == other.scratch[fold.key, "extra.weight"]


def pinned(ctx: RungContext, weight: float) -> RungContext:
    config = ctx.config.model_copy(deep=True)
    config.extra.weight = weight
    return replace(ctx, config=config, scratch={})


def test_joint_training_learns_from_extra_images_and_fine_tuning_stays_labels_only(
    folders: dict[str, Path],
) -> None:
    alone, ctx = with_extra(folders, "two", "wrong")
    assert state(pinned(ctx, 1.0), "finetune") == state(alone, "finetune")
    joint = state(alone, "joint")
    assert state(pinned(ctx, 0.0), "joint") == joint
    assert state(pinned(ctx, 1.0), "joint") != joint


def test_the_weight_can_be_pinned(folders: dict[str, Path]) -> None:
    alone, ctx = with_extra(folders, "two", "wrong")
    assert state(pinned(ctx, 3.0), "blend") != state(alone, "probe")
    assert state(pinned(ctx, 0.0), "blend") == state(alone, "probe")
    made = ctx.decisions.get("extra.weight")
    assert made is not None
    assert made.pinned


def test_a_rung_that_was_asked_for_and_has_no_images_is_skipped_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write_digits(tmp_path / "data", labels=6, pool=0, test=0, classes=(0, 1))
    train(data, tmp_path / "run", rungs="probe,blend,propagate")
    found = figures(tmp_path / "run")
    assert [rung["rung"] for rung in found["rungs"]] == ["probe"]
    assert found["notes"][:2] == [
        "blend was skipped: it learns from labeled images of another origin (--extra DATA), and there are none.",
        "propagate was skipped: it learns from unlabeled images, and there are none.",
    ]
    train(data, tmp_path / "unasked", rungs="auto")
    assert "there are none" not in " ".join(figures(tmp_path / "unasked")["notes"])


def test_a_run_with_extra_images_goes_on_and_is_done_again_with_the_same_ones_only(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data, extra = folders["two"], write_extra(tmp_path / "extra", each=4)
    options = {"rungs": "probe,blend,propagate", "extra": extra}
    train(data, tmp_path / "whole", **options)
    found = figures(tmp_path / "whole")
    assert [rung["rung"] for rung in found["rungs"]] == ["probe", "blend", "propagate"]
    assert found["counts"]["extra"] == 40
    assert found["extra"]["weight"] == decisions(tmp_path / "whole")["extra.weight"]["value"] > 0
    assert "your 40 extra images" in found["verdict"]

    class Stopped(BaseException):
        pass

    def stop(*given: object) -> None:
        raise Stopped

    with monkeypatch.context() as hurry:
        hurry.setattr(fallow.study.leave, "score", stop)
        with pytest.raises(Stopped):
            train(data, tmp_path / "resumed", **options)
    with pytest.raises(ConfigError, match="extra differs"):
        train(data, tmp_path / "resumed", resume=True, **{**options, "extra": folders["right"]})
    moved = next(extra.rglob("*.png"))
    moved.rename(moved.with_suffix(".away"))
    with pytest.raises(RunError, match="images or labels changed"):
        train(data, tmp_path / "resumed", resume=True, rungs=options["rungs"])
    moved.with_suffix(".away").rename(moved)
    train(data, tmp_path / "resumed", resume=True, rungs=options["rungs"])
    assert_same(tmp_path / "whole", tmp_path / "resumed")
    fallow.train(str(data), config=tmp_path / "whole" / "config.yaml", out=tmp_path / "again", show="nothing")
    again = decisions(tmp_path / "again")
    assert again["extra.weight"] == decisions(tmp_path / "whole")["extra.weight"]


def test_extra_images_of_an_unknown_class_end_a_run_in_one_sentence(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = write_extra(tmp_path / "extra", each=1)
    (extra / "0").rename(extra / "zero")
    out = str(tmp_path / "run")
    with pytest.raises(SystemExit) as ended:
        main(["train", str(folders["two"]), "--extra", str(extra), "--out", out, "--offline"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "the class 'zero' is in the extra images" in said
    assert "Traceback" not in said
    assert not Path(out).exists()
