from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from fallow.record import Counts, Interval, RungResult
from fallow.report import LiveLadder, last_screen
from fallow.report.page import render
from fallow.report.words import duration, percent, plural, points, rung_title
from tests.report.sample import bare, complete, result
from tests.report.test_page import words as text_of

PATHS = {"report": Path("runs/coral-otter/report.html"), "model": Path("runs/coral-otter/model/model.onnx")}


def screen(study: object = None, **options: object) -> str:
    return last_screen(
        study or result(),  # type: ignore[arg-type]
        **{"data": "photos/", "budget_seconds": 360, "unicode": True, "color": False, **PATHS, **options},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("unicode", [True, False])
def test_last_screen_fits_and_says_it_all(unicode: bool) -> None:
    text = screen(unicode=unicode)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert text.isascii() is not unicode
    flat = " ".join(text.split())
    for part in (
        "fallow photos/",
        "42 labeled",
        "3 files skipped",
        "27.4 %",
        "labels only",
        "chosen",
        "fine-tune",
        "2 min 28 s",
        "cut short",
        "test accuracy 84.8 % (labels only 72.6 %)",
        "about 160 labels",
        "Better than labels alone",
        "runs/coral-otter/report.html",
        "model/model.onnx",
        "3 min 02 s of 6 min",
    ):
        assert part in flat, part


def test_columns_line_up_in_both_alphabets() -> None:
    for unicode, sign in ((True, "±"), (False, "+-")):
        rows = [
            line for line in screen(unicode=unicode).splitlines() if sign in line and "points" not in line
        ]
        assert len(rows) == 2
        assert len({line.index(sign) for line in rows}) == 1


def test_color_is_only_color() -> None:
    colored = screen(color=True)
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == screen(color=False)


def test_nothing_measured() -> None:
    text = screen(bare().result)
    assert "not measured" in text
    assert "worth" not in text
    assert "test accuracy" not in text
    assert "None" not in text


def test_long_paths_are_not_broken() -> None:
    path = Path("/") / ("very-long-" * 12) / "report.html"
    assert str(path) in screen(report=path, data=str(path))


def test_markup_in_names_is_text() -> None:
    assert "[red]x[/red]" in screen(data="[red]x[/red]")


def test_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveLadder() as ladder:
        ladder.start("photos/", Counts(4, 5, 6, 2))
        ladder.stage("probe")
        ladder.progress("embedding", 1, 2)
        ladder.rung(result().rungs[0])
        ladder.note("A sentence.")
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]


def test_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    out = Terminal()
    ladder = LiveLadder(budget_seconds=60, console=Console(file=out, force_terminal=True, width=80))
    ladder.stage("read")
    ladder.start("photos/", Counts(4, 5, 6, 2))
    ladder.rung(result().rungs[0])
    ladder.rung(replace(result().rungs[0], held_out=Interval(0.7, 0.6, 0.8, 40)))  # measured again
    ladder.stage("propagate")
    ladder.progress("spreading", 0, 10)
    now[0] += 1
    ladder.progress("spreading", 3, 10)
    assert "━" not in ladder._now()[0].plain, "no bar for what may be over at once"
    now[0] += 2
    ladder.progress("spreading", 5, 10)
    work, clock = (line.plain for line in ladder._now())
    assert "50 %" in work
    assert "3 s left" in work
    assert "3 s of 1 min" in clock
    ladder.note("something was cut short")
    ladder.progress("propagate: " + "a very long description " * 5, 5, 10)
    assert all(cell_len(line.plain) <= 80 for line in ladder._now())
    ladder.close()
    ladder.close()
    text = out.getvalue()
    assert "4 labeled" in text
    assert "something was cut short" in text
    assert "30.0 %" in text
    assert text.rindex("30.0 %") > text.rfind("27.4 %"), "the last figure stays"
    assert "\x1b[?25h" in text, "the cursor is back"


def test_the_cursor_comes_back_when_something_fails() -> None:
    out = Terminal()
    console = Console(file=out, force_terminal=True, width=80)

    def fail() -> None:
        with LiveLadder(console=console) as ladder:
            ladder.start("photos/")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert "\x1b[?25h" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (0.4, "0.4 s"),
        (9.3, "9 s"),
        (59.7, "1 min"),
        (182, "3 min 02 s"),
        (3900, "1 h 05 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_words() -> None:
    assert percent(0.2741) == "27.4 %"
    assert plural(1, "file") == "1 file"
    assert plural(1638, "class", "classes") == "1,638 classes"
    assert rung_title("joint:softmatch") == "softmatch"
    assert rung_title("finetune") == "fine-tune"
    assert points(Interval(-0.026, -0.07, 0.018, 84)) == "−2.6 ± 4.4"
    assert points(Interval(0.0, -0.01, 0.01, 84)) == "0.0 ± 1.0"


def test_many_rungs_and_long_names_fit() -> None:
    rung = RungResult(
        "noisy_student", Interval(0.9, 0.85, 0.95, 99), gain=Interval(0.1, 0.05, 0.15, 99), seconds=4000
    )
    text = screen(replace(result(), rungs=(*result().rungs, rung), chosen=rung))
    assert max(len(line) for line in text.splitlines()) <= 80


def test_figures_stand_on_the_screen_once() -> None:
    text = screen()
    assert text.count("84.8") == 1
    assert text.count("12.2") == 1
    assert text.endswith("\n"), "the prompt begins on a line of its own"


def test_notes_are_on_the_screen() -> None:
    note = "finetune was skipped: it needs about 312 s and 40 s were left, so the comparison is against a linear probe."
    text = screen(replace(result(), notes=(note, "Another.")))
    assert note in " ".join(text.split())
    assert "note    Another." in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_note_of_a_rung_is_told_once() -> None:
    note = result().rungs[2].note
    assert screen(replace(result(), notes=(note,))).count("cut short") == 1
    assert " ".join(text_of(render(replace(complete(), notes=[note]))).split()).count("cut short") == 1


def test_no_color_and_pipes_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"data": "photos/", "unicode": True, **PATHS}
    assert "\x1b" not in last_screen(result(), **options), "not a terminal"  # type: ignore[arg-type]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in last_screen(result(), **options)  # type: ignore[arg-type]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in last_screen(result(), **options)  # type: ignore[arg-type]


def test_the_clock_on_screen_is_the_clock_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    ladder = LiveLadder(budget_seconds=60, already=12, console=Console(file=Terminal(), force_terminal=True))
    assert "12 s of 1 min" in ladder._now()[1].plain
    out = io.StringIO()
    LiveLadder(lines=True, already=12, console=Console(file=out)).note("So it is.")
    assert out.getvalue().split() == ["fallow", "12", "s", "note:", "So", "it", "is."]
