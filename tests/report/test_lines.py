"""What a log file sees of a run."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from fallow.record import Counts, Interval
from fallow.report import LiveLadder
from tests.report.sample import result


class Pipe(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]


def told(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tell a whole run to ``out`` by a clock of its own, and return the lines."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    probe, spread = result().rungs[:2]
    with LiveLadder(lines=True, console=Console(file=out)) as ladder:
        ladder.stage("read")
        now[0] += 3
        ladder.start("photos/", Counts(4, 5, 6, 2, skipped=3))
        ladder.stage("embed")
        now[0] += 6
        ladder.stage("embed")
        now[0] += 6
        ladder.stage("probe")
        for done in range(100):
            ladder.progress("probe: held-out fits", done, 100)
        ladder.rung(probe)
        ladder.stage("export")
        now[0] += 0.2
        ladder.stage("propagate")
        ladder.rung(replace(probe, held_out=Interval(0.9, 0.8, 1.0, 40)))  # measured again
        ladder.rung(spread)
        ladder.note("Something was cut short.")
        ladder.stage("test")
        now[0] += 60
        ladder.stage("report")
        now[0] += 4
    return out.getvalue().splitlines()


def test_each_thing_that_is_finished_has_one_plain_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(Pipe(), monkeypatch)
    expected = (
        ("3 s", "photos/: 4 labeled · 5 unlabeled · 6 test · 2 classes, 3 skipped"),
        ("15 s", "images turned into vectors in 12 s"),
        ("15 s", "probe: done in 4 s, error 27.4 % on held-out labels"),
        ("15 s", "propagate: done in 9 s, error 15.2 % on held-out labels, gain +12.2 ± 4.1 points"),
        ("15 s", "note: Something was cut short."),
        ("1 min 15 s", "test images scored in 1 min"),
        ("1 min 19 s", "report written in 4 s"),
    )
    assert [line.split("  ")[-1] for line in lines] == [text for _, text in expected]
    for line, (age, _) in zip(lines, expected, strict=True):
        assert line.startswith("fallow ")
        assert f" {age}  " in line
        assert "\x1b" not in line


def test_a_stream_of_plain_letters_gets_plain_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(io.StringIO):
        encoding = "ascii"  # type: ignore[assignment]

    lines = told(Old(), monkeypatch)
    assert all(line.isascii() for line in lines)
    assert "gain +12.2 +-4.1 points" in lines[3]


def test_a_reader_who_went_away_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Pipe):
        def write(self, text: str) -> int:
            if "probe" in text:
                raise BrokenPipeError
            return super().write(text)

    assert len(told(Gone(), monkeypatch)) == 2


def test_a_terminal_gets_the_picture_and_no_lines() -> None:
    out = Pipe()
    with LiveLadder(lines=True, console=Console(file=out, force_terminal=True, width=80)) as ladder:
        ladder.start("photos/", Counts(4, 5, 6, 2))
        ladder.rung(result().rungs[0])
    assert "done in" not in out.getvalue()
    assert "27.4 %" in out.getvalue()
