"""Interrupted anywhere, a study that goes on ends as an uninterrupted one does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import fallow
import fallow.study.ladder
from fallow.errors import RunError
from fallow.export import load_bundle
from fallow.study import strength
from fallow.verbs.predict import predict_images
from tests.study.digits import (
    FEW,
    assert_same,
    decisions,
    figures,
    hasten,
    model,
    posteriors,
    train,
    two_vote,
    write_digits,
)

ONCE = {"set": {"choose.repeats": 1, "choose.folds": 2}}


class Killed(BaseException):
    """What a test raises where a kill would strike: nothing catches it."""


class Saboteur:
    """Counts what reaches the disk below a folder, and strikes at one of these moments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, below: Path) -> None:
        self.moments, self.strike_at, self.below = 0, -1, str(below)
        replace, rename, fsync = Path.replace, Path.rename, os.fsync

        def moved(how: object, path: Path, to: Path) -> Path:
            done: Path = how(path, to)  # type: ignore[operator]
            if str(to).startswith(self.below):
                self.moment()
            return done

        def synced(handle: int) -> None:
            fsync(handle)
            if os.readlink(f"/proc/self/fd/{handle}").startswith(self.below):
                self.moment()

        monkeypatch.setattr(Path, "replace", lambda path, to: moved(replace, path, Path(to)))
        monkeypatch.setattr(Path, "rename", lambda path, to: moved(rename, path, Path(to)))
        if Path("/proc/self/fd").is_dir():
            monkeypatch.setattr(os, "fsync", synced)

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.strike_at:
            raise Killed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"), **FEW)  # type: ignore[arg-type]


def finish(data: Path, out: Path, **options: object) -> None:
    """Go on with a run, or start again where the kill came before there was one."""
    train(data, out, resume=(out / "config.yaml").is_file(), **options)


def test_a_study_killed_at_any_write_and_resumed_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    saboteur = Saboteur(monkeypatch, tmp_path / "killed")
    data = write_digits(tmp_path / "few", classes=(0, 1, 7), labels=2, pool=8, test=2)
    train(data, tmp_path / "whole", **ONCE)
    train(data, tmp_path / "killed" / "never", **ONCE)
    moments = saboteur.moments
    assert moments > 30  # folds, plans, finals, models, choice, reads, scores: all are there to be struck
    assert_same(tmp_path / "whole", tmp_path / "killed" / "never")
    reads = 0
    for moment in range(1, moments + 1):
        out = tmp_path / "killed" / str(moment)
        saboteur.moments, saboteur.strike_at = 0, moment
        with pytest.raises(Killed):
            train(data, out, **ONCE)
        saboteur.strike_at = -1
        if (out / "model").is_dir():
            assert load_bundle(out / "model").meta["rung"] in ("probe", "propagate")
        finish(data, out, **ONCE)
        # A read of the test labels is written down before it happens: a kill in between leaves it counted, not lost.
        again = figures(out).pop("test_reads")
        lines = (out / "test_reads.jsonl").read_text().splitlines()
        assert [json.loads(line)["rung"] for line in lines] == again
        assert set(again) == {"probe", "propagate"}
        reads += len(again) > 2
        if len(again) == 2:
            assert_same(tmp_path / "whole", out)
        assert not list(out.rglob("*.part"))
    assert 1 <= reads <= 4


@pytest.fixture
def deciding(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return data on which much is decided with labels: which views of two embeddings vote, and the probe's strength."""
    hasten(monkeypatch, tmp_path / "cache")
    two_vote(monkeypatch)
    monkeypatch.setattr(strength, "SEARCH_FROM", 8)  # what a fold of three leaves of twelve labels
    return data


def assert_decided(run: Path) -> None:
    """Check that a run made the decisions that `deciding` is about."""
    made = decisions(run)
    assert [made[name]["source"] for name in ("embed.views", "probe.strength")] == ["search", "search"]
    assert any("branches.1." in name for name in model(run))


@pytest.mark.parametrize("share", [0.2, 0.45, 0.7])
def test_a_study_that_decides_with_labels_ends_as_if_it_had_not_been_killed(
    share: float, deciding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"set": {"choose.repeats": 1}, "embed": {"size": 8}}
    train(deciding, tmp_path / "whole", **options)
    assert_decided(tmp_path / "whole")
    saboteur = Saboteur(monkeypatch, tmp_path / "killed")
    train(deciding, tmp_path / "killed" / "never", **options)
    out = tmp_path / "killed" / "once"
    saboteur.moments, saboteur.strike_at = 0, round(share * saboteur.moments)
    with pytest.raises(Killed):
        train(deciding, out, **options)
    saboteur.strike_at = -1
    assert not (out / "test_reads.jsonl").exists()  # a read that was struck counts, and is told
    finish(deciding, out, **options)
    assert_same(tmp_path / "whole", out)


def test_replayed_from_its_config_a_study_decides_the_same_with_its_labels(
    deciding: Path, tmp_path: Path
) -> None:
    train(deciding, tmp_path / "first", set={"choose.repeats": 1}, embed={"size": 8})
    assert_decided(tmp_path / "first")
    fallow.train(
        str(deciding), config=tmp_path / "first" / "config.yaml", out=tmp_path / "second", show="nothing"
    )
    assert figures(tmp_path / "second") == figures(tmp_path / "first")
    assert posteriors(tmp_path / "second") == posteriors(tmp_path / "first")
    models = [(tmp_path / name / "model" / "model.onnx").read_bytes() for name in ("first", "second")]
    assert models[0] == models[1]


def test_a_damaged_stage_file_counts_as_not_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    train(data, tmp_path / "whole")
    files = sorted(
        p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole" / "stages").rglob("*") if p.is_file()
    )
    kinds = {p.name.partition("-")[0]: p for p in files}  # one of each kind will do
    assert {
        "final.json",
        "final.safetensors",
        "fold",
        "metrics.jsonl",
        "plan.json",
        "test.safetensors",
    } <= kinds.keys()
    for number, file in enumerate(kinds.values()):
        out = tmp_path / str(number)
        train(data, out)
        content = (out / file).read_bytes()
        (out / file).write_bytes(content[: len(content) // 2])
        (out / "result.json").unlink()
        finish(data, out)
        assert_same(tmp_path / "whole", out)


def test_a_model_folder_that_lost_a_file_is_made_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    for name in ("whole", "hurt"):
        train(data, tmp_path / name)
    (tmp_path / "hurt" / "model" / "model.onnx").unlink()
    (tmp_path / "hurt" / "result.json").unlink()
    finish(data, tmp_path / "hurt")
    assert_same(tmp_path / "whole", tmp_path / "hurt")


def test_a_finished_run_is_loaded_and_nothing_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    first = train(data, tmp_path / "run")
    saboteur = Saboteur(monkeypatch, tmp_path / "run")
    again = train(data, tmp_path / "run", resume=True)
    assert saboteur.moments == 0
    assert again.study == first.study


def test_ctrl_c_says_what_is_kept_and_how_to_go_on_and_the_kept_model_predicts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(fallow.study.leave, "score", _interrupt)
    with pytest.raises(KeyboardInterrupt) as stop:
        train(data, tmp_path / "run")
    sentence = str(stop.value)
    assert f"fallow train {data} --out {tmp_path / 'run'} --resume" in sentence
    rung = load_bundle(tmp_path / "run" / "model").meta["rung"]
    assert f"({rung})" in sentence
    found = list(predict_images(load_bundle(tmp_path / "run" / "model"), str(data / "unlabeled")))
    assert len(found) == 80
    assert all(p.label in "0147" for p in found)


def _interrupt(*given: object) -> None:
    raise KeyboardInterrupt


def test_replayed_from_its_config_a_run_finds_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    train(data, Path("first"))

    def decide(*given: object) -> None:
        raise AssertionError("what was decided is not decided again")

    monkeypatch.setattr(fallow.study.ladder, "plan_spaces", decide)
    fallow.train(str(data), config="first/config.yaml", out="second", show="nothing")
    fallow.train(str(data), config="second/config.yaml", out="third", show="nothing")
    for again in ("second", "third"):
        assert figures(Path(again)) == figures(Path("first"))
        assert posteriors(Path(again)) == posteriors(Path("first"))
        assert (Path(again) / "model" / "model.onnx").read_bytes() == Path(
            "first/model/model.onnx"
        ).read_bytes()
    values = {name: d["value"] for name, d in decisions(Path("first")).items() if name != "embed.budget"}
    assert values.items() <= {name: d["value"] for name, d in decisions(Path("second")).items()}.items()


@pytest.mark.parametrize("split", ["train/0", "unlabeled", "test/0"])
def test_a_run_does_not_go_on_with_other_images(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data = write_digits(tmp_path / "data", **FEW)  # type: ignore[arg-type]
    train(data, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    sorted((data / split).iterdir())[0].unlink()
    with pytest.raises(RunError, match="changed since"):
        train(data, tmp_path / "run", resume=True)
