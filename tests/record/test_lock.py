"""Two processes never train in one directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fallow
from fallow.errors import RunError
from fallow.record import RunDir
from tests.study.digits import FEW, hasten, train, write_digits

AT_WORK = """
import sys
from pathlib import Path
from fallow.record import RunDir
run = RunDir(Path(sys.argv[1]))
run.lock()
(run.path / ".model.abc.part").write_text("being written")
print("at work", flush=True)
sys.stdin.read()
"""


@contextmanager
def at_work(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process train in ``path``."""
    other = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "at work\n"
    try:
        yield other
    finally:
        other.kill()
        other.communicate()


def test_a_run_does_not_go_on_while_another_process_is_at_work_on_it_and_does_when_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data, out = write_digits(tmp_path / "data", **FEW), tmp_path / "run"  # type: ignore[arg-type]
    train(data, out)
    (out / "result.json").unlink()
    with at_work(out) as other:
        with pytest.raises(RunError, match=r"another fallow is at work in .*run': wait"):
            train(data, out, resume=True)
        assert (out / ".model.abc.part").read_text() == "being written"
        assert not (out / "result.json").exists()
        other.kill()
        other.wait()
        train(data, out, resume=True)
    assert (out / "result.json").is_file()
    assert not list(out.glob("*.part"))


def test_a_new_run_does_not_begin_where_another_process_begins_one(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with at_work(out), pytest.raises(RunError, match="another fallow is at work"):
        RunDir.create(out)
    made = RunDir.create(out)  # that process is dead, and left nothing that counts
    made.release()


def test_a_finished_run_is_read_while_another_process_is_at_work_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data, out = write_digits(tmp_path / "data", **FEW), tmp_path / "run"  # type: ignore[arg-type]
    made = train(data, out)
    with at_work(out):
        assert fallow.load(out).study == made.study


def test_a_run_that_ended_or_failed_leaves_its_directory_free_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path / "cache")
    data, out = write_digits(tmp_path / "data", **FEW), tmp_path / "run"  # type: ignore[arg-type]
    train(data, out)
    with at_work(out):  # though this process goes on
        pass
    train(data, out, resume=True)
    with at_work(out):
        pass
    next((data / "unlabeled").iterdir()).unlink()
    (out / "result.json").unlink()
    with pytest.raises(RunError, match="changed since"):
        train(data, out, resume=True)
    with at_work(out):
        pass
