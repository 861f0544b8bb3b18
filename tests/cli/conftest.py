"""The command line, in this process: fast, and yet from the words to the exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fallow.cli import main
from tests.photos import photos

QUICK = ("--offline", "--backbone", "pixels", "--rungs", "probe,propagate", "--budget", "20s")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


Fallow = Callable[..., Ran]


@pytest.fixture(autouse=True)
def surroundings(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Work in an empty folder, with a cache of the tests' own and a process that has just begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for verb in ("runs", "one_go"):
        monkeypatch.setattr(f"fallow.verbs.{verb}.process_age", lambda: 0.0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def fallow(capsys: pytest.CaptureFixture[str]) -> Fallow:
    """Run a command: ``fallow("train", path)``; train is made quick."""

    def run(*words: object) -> Ran:
        given = [str(word) for word in words]
        if given[:1] == ["train"] and "--help" not in given and "--resume" not in given:
            given.append(QUICK[0])
            for option, value in (QUICK[1:3], QUICK[3:5]):
                given += [] if option in given else [option, value]
        code = 0
        try:
            main(given)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in ``run/`` beside its photos in ``photos/``; not to be changed."""
    here = tmp_path_factory.mktemp("trained")
    photos(here / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr("fallow.verbs.runs.process_age", lambda: 0.0)
        main(["train", str(here / "photos"), "--out", str(here / "run"), *QUICK])
    return here
