"""What the clock cuts is a fact; rungs are judged by one measure; signals end a run in good order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fallow
import fallow.study.judge
import fallow.study.leave
from fallow.cli import main
from fallow.config import read_config
from fallow.export import load_bundle
from fallow.record import elapsed_before
from fallow.study import RUNGS
from fallow.study.clock import Clock
from fallow.study.evidence import OutOfFold
from fallow.study.judge import Judge, Judgment
from fallow.study.pace import Pace, image_seconds
from fallow.study.rung import Cost, RungInfo
from fallow.study.stage import Stage, StagePlan
from tests.study.digits import (
    FEW,
    assert_same,
    context,
    decisions,
    figures,
    hasten,
    posteriors,
    train,
    write_digits,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"), **FEW)  # type: ignore[arg-type]


class Stopped(BaseException):
    pass


def stop_before_the_test_split(patch: pytest.MonkeyPatch) -> None:
    def stop(*given: object) -> None:
        raise Stopped

    patch.setattr(fallow.study.leave, "score", stop)


def test_a_cut_by_the_clock_is_kept_on_resume_and_on_replay_though_there_is_time_then(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    with monkeypatch.context() as hurry:
        hurry.setattr(Pace, "held_out_seconds", lambda self, spent, last: spent + 1e-9)
        train(data, tmp_path / "cut")
        stop_before_the_test_split(hurry)
        with pytest.raises(Stopped):
            train(data, tmp_path / "resumed")
    train(data, tmp_path / "resumed", resume=True)
    assert_same(tmp_path / "cut", tmp_path / "resumed")
    found = figures(tmp_path / "cut")
    assert [bar["folds"] for bar in found["waterfall"]["bars"]] == [1, 1]
    assert all("measured on 1 of 6 folds" in rung["note"] for rung in found["rungs"])
    assert decisions(tmp_path / "cut")["probe.folds"]["value"] == 1
    fallow.train(str(data), config=tmp_path / "cut" / "config.yaml", out=tmp_path / "again", show="nothing")
    again = figures(tmp_path / "again")
    for name in ("chosen", "labels_only", "claim"):
        assert again[name] == found[name]
    assert [bar["folds"] for bar in again["waterfall"]["bars"]] == [1, 1]


def test_rungs_measured_on_different_folds_are_told_by_the_folds_they_share(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(Pace, "held_out_seconds", lambda self, spent, last: 1e-9 if last else 1e9)
    monkeypatch.setattr(fallow.study.judge, "keep", lambda found, cheap: True)
    train(data, tmp_path / "run")
    found = figures(tmp_path / "run")
    assert [bar["folds"] for bar in found["waterfall"]["bars"]] == [6, 1]
    assert found["chosen"]["rung"] == "propagate"
    rows = [row for row in posteriors(tmp_path / "run") if row["fold"] == "0-0"]
    for name in ("labels_only", "chosen"):
        mine = [row for row in rows if row["rung"] == found[name]["rung"]]
        right = [float(np.argmax(row["probs"]) == row["label"]) for row in mine]
        assert found[name]["held_out"]["n"] == len(mine)
        assert found[name]["balanced_held_out"] == pytest.approx(np.mean(right))  # one label of each class


def test_with_the_probe_alone_asked_for_nothing_is_said_of_what_was_not_tried(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    result = train(data, tmp_path / "run", rungs="probe")
    assert result.study.pool_use == "not asked"
    assert "asked for" in result.verdict
    assert "help" not in result.verdict


def test_a_pool_of_damaged_files_is_no_usable_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write_digits(tmp_path / "data", classes=(0, 1), pool=2, test=2)
    for file in (data / "unlabeled").iterdir():
        file.write_bytes(b"no image")
    assert "no usable unlabeled images" in train(data, tmp_path / "run").verdict


def test_a_rung_skipped_for_the_budget_stays_skipped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    with monkeypatch.context() as hurry:
        hurry.setattr(Pace, "left", property(lambda self: -1.0))
        hurry.setattr(RUNGS["propagate"], "estimate", lambda ctx: Cost(60.0))
        train(data, tmp_path / "cut")
        stop_before_the_test_split(hurry)
        with pytest.raises(Stopped):
            train(data, tmp_path / "resumed")
    train(data, tmp_path / "resumed", resume=True)
    assert [r["rung"] for r in figures(tmp_path / "resumed")["rungs"]] == ["probe"]
    for run in ("cut", "resumed"):
        made = decisions(tmp_path / run)["propagate.folds"]
        assert made["value"] == "skipped"
    assert figures(tmp_path / "cut") == figures(tmp_path / "resumed")
    assert figures(tmp_path / "cut")["verdict"].startswith(
        "The budget left no time to learn from the unlabeled images"
    )
    assert read_config(tmp_path / "cut" / "config.yaml")["rungs"] == "probe,propagate"


def test_a_run_that_goes_on_has_the_rest_of_its_budget(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    with monkeypatch.context() as patch:
        stop_before_the_test_split(patch)
        patch.setattr(Clock, "elapsed", property(lambda self: 400.0))
        with pytest.raises(Stopped):
            train(data, tmp_path / "run")
    assert elapsed_before(tmp_path / "run") == 400.0
    assert elapsed_before(tmp_path / "no run") == 0.0
    assert train(data, tmp_path / "run", resume=True).study.seconds > 400


class _Few:
    """Counts of a data set, as the pace asks for them."""

    labeled_ids, pool_ids, test_ids = ("a",) * 20, ("b",) * 80, ("c",) * 50
    extra_ids: tuple[str, ...] = ()


class _Ctx:
    data = _Few()


@pytest.mark.parametrize("each", [0.1, 0.9, 3.0, 40.0])
def test_as_many_folds_are_planned_as_fit_at_the_measured_cost_and_one_at_least(each: float) -> None:
    pace: Any = Pace(Clock(100.0), _Ctx(), 10.0)  # type: ignore[arg-type]
    seconds, plan, spent = pace.held_out_seconds(0.0), None, 0.0
    fits = 0
    for position in range(20):
        if plan is not None and position >= plan.folds:
            break
        plan = pace.cut("probe", plan, position, 20, spent, each if position else 0.0, seconds) or plan
        if plan is not None and position >= plan.folds:
            break
        fits, spent = fits + 1, spent + each
    assert 1 <= fits <= 20
    assert fits in (1, 20) or spent <= seconds < spent + each
    assert (plan is not None and plan.decision is not None) == (fits < 20)


def test_the_time_for_report_export_and_test_images_is_not_given_to_rungs() -> None:
    slow, quick = (Pace(Clock(100.0), _Ctx(), seconds) for seconds in (60.0, 1.0))  # type: ignore[arg-type]
    assert slow.reserve - quick.reserve == pytest.approx((60 - 1) * 50 / 100)
    assert quick.left < Clock(100.0).left - quick.report
    assert quick.skip("dear", quick.left + 1) is not None
    assert quick.skip("cheap", quick.left - 1) is None


def test_time_is_kept_for_comparing_the_exported_file_with_the_model_on_a_few_images() -> None:
    free, quick, slow = (Pace(Clock(100.0), _Ctx(), 1.0, each) for each in (0.0, 0.1, 0.5))  # type: ignore[arg-type]
    assert (free.compared, quick.compared, slow.compared) == (50, 50, 10)  # in a twentieth of the budget
    assert quick.reserve - free.reserve == pytest.approx(0.1 * 50)
    assert slow.reserve - free.reserve == pytest.approx(0.5 * 10)


def test_the_time_that_an_image_takes_is_known_from_the_plan(data: Path, tmp_path: Path) -> None:
    ctx = context(data, tmp_path / "cache")
    each = image_seconds(ctx)
    made = ctx.decisions.get("embed.budget")
    assert made is not None
    measured: Any = made.evidence["pixels"]
    assert each == pytest.approx(measured["seconds_an_image"])
    assert each > 0


def test_the_probe_is_the_last_rung_where_there_is_no_pool_and_may_take_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data, real = write_digits(tmp_path / "data", classes=(0, 1), pool=0), Pace.held_out_seconds
    told: list[bool] = []

    def listen(self: Pace, spent: float, last: bool = False) -> float:
        told.append(last)
        return real(self, spent, last)

    monkeypatch.setattr(Pace, "held_out_seconds", listen)
    train(data, tmp_path / "run")
    assert told == [True]


def test_a_plan_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    pace = Pace(Clock(1.0), _Ctx(), 1.0)  # type: ignore[arg-type]
    skipped = pace.skip("dear", 10.0)
    assert skipped is not None
    for plan in (StagePlan(7), StagePlan(3, 1.5), skipped):
        stage = Stage(tmp_path / "1-dear")
        stage.keep_plan(plan)
        assert stage.plan() == plan


def _info(name: str, labels_only: bool) -> RungInfo:
    return RungInfo(name, name, True, labels_only, not labels_only)


def test_every_row_is_weighted_alike_once_the_mix_is_known() -> None:
    y = np.array([0, 0, 1, 1])
    evidence = OutOfFold(("a", "b", "c", "d"), y, 2)
    both_right, zero_right = np.eye(2, dtype=np.float32)[y], np.tile(np.float32([0.9, 0.1]), (4, 1))
    evidence.add("probe", "0-0", np.arange(4), zero_right)
    evidence.add("propagate", "0-0", np.arange(4), both_right)
    judge = Judge(evidence, 2.0, 0)
    rows = [
        Judgment(_info(n, n == "probe"), n == "propagate", None, None, 1.0) for n in ("probe", "propagate")
    ]
    plain = judge.results(rows, np.array([0.5, 0.5]))
    skewed = judge.results(rows, np.array([0.9, 0.1]))
    assert plain[0].held_out is not None
    assert skewed[0].held_out is not None
    assert plain[0].held_out.value == pytest.approx(0.5)
    assert skewed[0].held_out.value == pytest.approx(0.9)  # the first rung too, though it estimated no mix
    assert [r.balanced_held_out for r in skewed] == pytest.approx([0.5, 1.0])
    assert skewed[1].gain is not None
    assert skewed[1].gain.value == pytest.approx(0.1)
    assert [r.kept for r in skewed] == [False, True]


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_its_code_a_sentence_and_a_model_that_works(
    number: int,
    code: int,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    real, out = RUNGS["propagate"].fit, tmp_path / "run"

    def struck(*given: Any, **named: Any) -> Any:
        os.kill(os.getpid(), number)
        return real(*given, **named)

    monkeypatch.setattr(RUNGS["propagate"], "fit", struck)
    quick = ["--offline", "--backbone", "pixels", "--rungs", "probe,propagate"]
    with pytest.raises(SystemExit) as end:
        main(["train", str(data), "--out", str(out), *quick])
    assert end.value.code == code
    *finished, said = capsys.readouterr().err.strip().splitlines()
    assert ["probe: done" in line for line in finished].count(True) == 1
    assert said.startswith("fallow: stopped; ")
    assert "(probe)" in said
    assert said.endswith(f"fallow train {data} --out {out} --resume")
    assert load_bundle(out / "model").predict_probs([np.zeros((9, 9, 3), np.uint8)]).shape == (1, 4)
    monkeypatch.setattr(RUNGS["propagate"], "fit", real)
    main(["train", str(data), "--out", str(out), "--resume"])
    assert len(figures(out)["rungs"]) == 2


@pytest.mark.usefixtures("signals")
def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fallow.cli.stop import stop_on_signals

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    stop_on_signals([])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
        assert ended.value.code == 128 + number


@pytest.mark.parametrize("mixed_up", [False, True])
def test_labels_that_say_nothing_are_told_after_the_first_rung(
    mixed_up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    folder = write_digits(tmp_path / "data", labels=8, pool=10)
    if mixed_up:  # deal the labeled images out anew: every class gets two of each digit
        files = {d.name: sorted(d.iterdir()) for d in sorted((folder / "train").iterdir())}
        for own in files.values():
            for position, file in enumerate(own):
                file.rename(folder / "train" / list(files)[position % len(files)] / f"m-{file.name}")
    result = train(folder, tmp_path / "run", rungs="probe")
    told = [note for note in figures(result.path)["notes"] if "the labels may be mixed up" in note]
    assert len(told) == mixed_up
