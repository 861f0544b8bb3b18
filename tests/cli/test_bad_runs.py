"""Where a run cannot be written or resumed, one sentence says why, and nothing of it is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.checks import refused
from tests.cli.conftest import QUICK, Fallow, Ran
from tests.photos import photos, put

# --- how a run may be started ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_several_processes_at_once_are_refused_before_any_of_them_writes(
    launcher: str, fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos(tmp_path / "data")
    monkeypatch.setenv(launcher, "2")
    refused(fallow("train", data, "--out", "run"), "one process", "2 were started", "without them")
    assert not Path("run").exists()
    monkeypatch.setenv(launcher, "1")
    refused(fallow("train", "nowhere", "--out", "run"), "nowhere")


# --- where a run may be written -------------------------------------------------------------------------------------


def test_an_output_folder_that_holds_something_is_refused_and_not_touched(
    fallow: Fallow, tmp_path: Path
) -> None:
    Path("out").mkdir()
    Path("out/letter.txt").write_text("mine")
    refused(fallow("train", photos(tmp_path / "data"), "--out", "out"), "'out'", "not empty", "--out")
    assert [p.name for p in Path("out").iterdir()] == ["letter.txt"]


def test_an_output_path_that_is_a_file_or_below_one_is_refused(fallow: Fallow, tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    Path("file").write_text("mine")
    refused(fallow("train", data, "--out", "file"), "'file'", "is a file", "--out")
    refused(fallow("train", data, "--out", "file/run"), "'file/run'", "cannot be made", "--out")
    assert Path("file").read_text() == "mine"


def test_too_little_disk_is_refused_before_anything_is_done(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos(tmp_path / "data")
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5, 5))
        refused(fallow("train", data, "--out", "run"), "not enough disk", "'run'", "--out")
    assert fallow("train", data, "--out", "run").code == 0


@pytest.mark.parametrize(
    ("file", "usable"),
    [
        (".splits.parquet.", False),
        ("1-probe/metrics.jsonl", False),
        ("model.safetensors", False),
        ("2-propagate/.final.json", True),
        (".report.html.", True),
    ],
)
def test_a_disk_that_fills_up_leaves_what_was_computed_and_the_run_goes_on_from_there(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, usable: bool
) -> None:
    data = photos(tmp_path / "data")
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if file in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(fallow("train", data, "--out", "run"), "free some space", "--resume")
    assert not list(Path("run").rglob("*.part"))
    if usable:
        assert fallow("predict", "run", data / "unlabeled").out.count("\n") == 9
    assert fallow("train", data, "--out", "run", "--resume").code == 0
    assert Path("run/result.json").is_file()


def test_a_cache_that_cannot_be_written_is_named(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("no folder")
    monkeypatch.setenv("FALLOW_CACHE", str(Path("file").absolute()))
    refused(fallow("train", photos(tmp_path / "data"), "--out", "run"), "FALLOW_CACHE", "file")


# --- resuming -------------------------------------------------------------------------------------------------------


def test_what_is_no_run_cannot_be_resumed(fallow: Fallow, tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    refused(fallow("train", data, "--out", "nowhere", "--resume"), "'nowhere'")
    refused(fallow("train", data, "--out", data, "--resume"), "not a run")
    assert not Path("nowhere").exists()


def test_a_run_is_not_resumed_with_other_options_or_other_data_and_stays_as_it_is(
    fallow: Fallow, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "run", "run")
    before = {p: p.stat().st_mtime_ns for p in sorted(Path("run").rglob("*"))}
    data = trained / "photos"
    refused(fallow("train", data, "--out", "run", "--resume", "--seed", "7"), "'run'", "seed")
    refused(fallow("train", data, "--out", "run", "--resume", "--sed", "7"), "--sed", "--seed")
    refused(fallow("train", photos(tmp_path / "other"), "--out", "run", "--resume"), "started on", "other")
    assert {p: p.stat().st_mtime_ns for p in sorted(Path("run").rglob("*"))} == before


def test_a_run_whose_images_changed_is_not_resumed_and_stays_as_it_is(fallow: Fallow, tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    assert fallow("train", data, "--out", "run").code == 0
    Path("run/result.json").unlink()
    put(data / "train" / "cat" / "another.png")
    refused(fallow("train", data, "--out", "run", "--resume"), "changed", "'run'")
    assert Path("run/model/model.onnx").is_file()


# --- as a process of its own ----------------------------------------------------------------------------------------


def process(*words: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fallow.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, timeout=120)


def test_a_process_ends_with_the_code_and_the_sentence_and_no_traceback(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", classes=("cat",))
    for words, named in (
        (("train", data, "--out", "run", *QUICK), "one class only"),
        (("train", data, "--sead", "3"), "--seed"),
        (("train", "nowhere"), "'nowhere'"),
    ):
        ended = process(*words)
        refused(Ran(ended.returncode, ended.stdout, ended.stderr), named)
    assert not Path("run").exists()


def test_a_stop_while_the_command_line_is_loaded_is_no_traceback(
    fallow: Fallow, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "fallow.cli.app", Loading("fallow.cli.app"))
    ran = fallow("methods")
    assert (ran.code, ran.err) == (130, "\nfallow: stopped; nothing was left half-written\n")


def test_a_process_whose_output_cannot_be_written_says_so(trained: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", "from fallow.cli import main; main()", "methods"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("fallow: the output cannot be written")
    assert ended.stderr.count("\n") == 1
