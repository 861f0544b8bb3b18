"""What a person sees in the terminal: the ladder while it is climbed (stderr), the last screen (stdout)."""

from __future__ import annotations

import io
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fallow.record import Counts, Interval, RungResult, StudyResult
from fallow.report.explain import learned_beside, probe_there, short_verdict
from fallow.report.lines import PATIENCE, PlainLines, in_ascii, speaks_unicode
from fallow.report.words import counts_line, duration, percent, plural, points, rung_title

if TYPE_CHECKING:
    from typing import Self

WIDTH = 80
BAR = 20


@dataclass(frozen=True)
class _Row:
    name: str
    error: Interval | None
    gain: Interval | None
    seconds: float
    chosen: bool
    baseline: bool
    note: str = ""


def _ladder(rows: Sequence[_Row]) -> list[Text]:
    """Draw the waterfall: one line a rung, 80 columns or fewer."""
    name_width = max([5, *(len(row.name) for row in rows)])
    scale = max([row.error.value for row in rows if row.error] or [0.0])
    head = f" {'rung':<{name_width}}  {'error, held-out labels':<{BAR + 9}}{'gain, points':>12}{'time':>12}"
    lines = [Text(head, style="dim")]
    for row in rows:
        line = Text(f" {row.name:<{name_width}}  ", style="bold" if row.chosen else "")
        if row.error is None:
            line.append(f"{'not measured':<{BAR + 9}}", style="dim")
        else:
            filled = row.error.value / scale * (BAR - 1) if scale else 0.0  # a wide gain begins right behind
            bar = "█" * int(filled) + ("▌" if filled % 1 >= 0.5 else "")
            line.append(f"{percent(row.error.value):>7}  ")
            line.append(f"{bar or '▌':<{BAR}}", style="green" if row.chosen else "blue")
        line.append(f"{'labels only' if row.baseline else points(row.gain) if row.gain else '':>12}")
        line.append(f"{duration(row.seconds):>12}")
        if row.chosen:
            line.append("  ← chosen", style="green")
        lines.append(line)
        if row.note:
            lines += [
                Text(f" {'':<{name_width}}  {part}", style="yellow")
                for part in textwrap.wrap(row.note, WIDTH - name_width - 4)
            ]
    return lines


def _row(rung: RungResult, result: StudyResult | None) -> _Row:
    error = None
    if rung.held_out:
        value = rung.held_out
        error = Interval(1 - value.value, 1 - value.high, 1 - value.low, value.n)
    chosen = result is not None and rung.rung == result.chosen.rung
    base = rung.rung == result.labels_only.rung if result else rung.gain is None and rung.rung == "probe"
    gain = None if base else rung.gain
    note = rung.note
    if result is not None:
        note = f"{note} {probe_there(rung, result)}".strip()
    return _Row(rung_title(rung.rung), error, gain, rung.seconds, chosen, base, note)


def _plain(text: Text) -> Text:
    """Return the same text in ASCII, without colors; columns stay where they are."""
    return Text(in_ascii(text.plain))


def _shown(path: Path) -> str:
    """Return ``path`` relative to the working directory where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _headline(data: str, counts: Counts) -> list[Text]:
    line = Text(" ").append("fallow", style="bold green").append(f"  {data}")
    facts = counts_line(counts)
    skipped = f"{plural(counts.skipped, 'file')} skipped (see report)" if counts.skipped else ""
    one = line.copy().append(f"   {facts}")
    lines = [one] if cell_len(one.plain) <= WIDTH else [line, Text(f" {facts}")]
    if skipped:
        room = WIDTH - cell_len(lines[-1].plain) - len(skipped)
        if room >= 3:
            lines[-1].append(" " * 3 + skipped, style="yellow")
        else:
            lines.append(Text(f" {skipped}", style="yellow"))
    return lines


def _score_lines(result: StudyResult) -> list[str]:
    def both(chosen: float | None, base: float | None, where: str) -> str:
        if chosen is None:
            return ""
        if base is None or result.chosen.rung == result.labels_only.rung:
            return f"{where} {percent(chosen)}"
        return f"{where} {percent(chosen)} (labels only {percent(base)})"

    held, base = result.chosen.held_out, result.labels_only.held_out
    parts = [
        both(result.chosen.test, result.labels_only.test, "test accuracy")
        or both(held.value if held else None, base.value if base else None, "held-out accuracy")
    ]
    if result.worth_labels:
        parts.append(f"your {learned_beside(result)} were worth about {plural(result.worth_labels, 'label')}")
    return [part for part in parts if part]


def _noted(notes: Sequence[str]) -> list[Text]:
    """Return what a person should know of the run: something was cut short, or skipped."""
    lines = [Text("")] if notes else []
    for note in notes:
        first, *rest = textwrap.wrap(note, WIDTH - 10) or [""]
        lines.append(Text(" note    ", style="dim").append(first, style="yellow"))
        lines += [Text(" " * 9 + part, style="yellow") for part in rest]
    return lines


def last_screen(
    result: StudyResult,
    *,
    data: str,
    report: Path,
    model: Path,
    budget_seconds: float = 0.0,
    unicode: bool | None = None,
    color: bool | None = None,
) -> str:
    """Return the last thing that ``fallow train`` prints, within 80 columns (but for long paths), ready to be written.

    The verdict is said without its figures, which stand right above it; `StudyResult.verdict` has the whole sentence.

    Args:
        result: What the study measured.
        data: The data as the user named it.
        report: Path of ``report.html``.
        model: Path of the exported model.
        budget_seconds: The wall clock asked for; 0 leaves it out.
        unicode: Whether block characters may be used; None asks stdout's encoding.
        color: Whether ANSI colors may be used; None: when stdout is a terminal and NO_COLOR is not set.
    """
    lines = [Text(""), *_headline(data, result.counts), Text("")]
    lines += _ladder([_row(rung, result) for rung in result.rungs])
    lines.append(Text(""))
    for score in _score_lines(result):
        lines += [Text(f" {part}", style="bold") for part in textwrap.wrap(score, WIDTH - 1)]
    lines += [Text(f" {part}") for part in textwrap.wrap(short_verdict(result), WIDTH - 1)]
    told = {rung.note for rung in result.rungs}
    lines += _noted([note for note in result.notes if note not in told])
    spent = duration(result.seconds) + (f" of {duration(budget_seconds)}" if budget_seconds else "")
    lines += [
        Text(""),
        Text(" report  ", style="dim").append(_shown(report), style="cyan"),
        Text(" model   ", style="dim").append(_shown(model), style="cyan"),
        Text(" time    ", style="dim").append(spent),
    ]
    wanted = speaks_unicode(sys.stdout) if unicode is None else unicode
    screen = Text("\n").join([*(lines if wanted else [_plain(line) for line in lines]), Text("")])
    return _ansi(screen) if (_stdout_has_color() if color is None else color) else screen.plain


def _stdout_has_color() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _ansi(text: Text) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", highlight=False)
    with console.capture() as capture:
        console.print(text, soft_wrap=True, end="")
    return capture.get()


class LiveLadder:
    """The ladder while it is climbed: what runs now, the time left, the waterfall so far.

    Draws on stderr, and only when both stderr and stdout are terminals; elsewhere it writes a plain line for each thing
    that is finished, or nothing. A bar with the time left appears on anything that takes longer than two seconds. Use it as a context manager, or call
    `close`: the cursor comes back whatever happens.

    Args:
        enabled: False draws nothing (``--json``).
        lines: Write plain lines where nothing is drawn.
        budget_seconds: The wall clock asked for; 0 leaves it out.
        already: Seconds of it that were used before, by loading Python or by a run that goes on.
        console: Where to draw; default stderr.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        lines: bool = False,
        budget_seconds: float = 0.0,
        already: float = 0.0,
        console: Console | None = None,
    ) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._on = enabled and self._console.is_terminal and (console is not None or sys.stdout.isatty())
        self._lines = PlainLines(self._console.file, already) if lines and not self._on else None
        self._unicode = speaks_unicode(self._console.file)
        self._budget = budget_seconds
        self._begun = time.monotonic() - already
        self._head: list[Text] = []
        self._rows: list[_Row] = []
        self._notes: list[str] = []
        self._stage = ""
        self._work = ("", 0, 0)
        self._work_begun, self._work_from = time.monotonic(), 0
        self._live: Live | None = None

    def start(self, data: str, counts: Counts | None = None) -> None:
        """Begin to draw, or take up ``counts`` once they are known."""
        name = Text(" ").append("fallow", style="bold green").append(f"  {data}")
        self._head = _headline(data, counts) if counts else [name]
        if self._lines and counts:
            self._lines.read(data, counts)
        self._show()

    def stage(self, name: str) -> None:
        """Name what runs now: a rung, or ``read``, ``report`` ..."""
        if self._lines:
            self._lines.stage(name)
        self._stage = name
        self._work, self._work_begun, self._work_from = ("", 0, 0), time.monotonic(), 0
        self._show()

    def note(self, sentence: str) -> None:
        """Add a sentence that a person should see while waiting (a rung skipped, say)."""
        if self._lines:
            self._lines.note(sentence)
        self._notes.append(sentence)

    def line(self, sentence: str) -> None:
        """Write a plain line where nothing is drawn: a picture shows the same on its progress line."""
        if self._lines:
            self._lines.line(sentence)

    def _show(self) -> None:
        if self._on and self._live is None:
            self._live = Live(
                get_renderable=self._draw, console=self._console, refresh_per_second=8, transient=True
            )
            self._live.start()

    def progress(self, what: str, done: int, total: int) -> None:
        """Take note of progress (a `fallow.types.Progress`): cheap, from any thread."""
        if what != self._work[0] or done < self._work[1]:
            self._work_begun, self._work_from = time.monotonic(), done
        self._work = (what, done, total)

    def rung(self, result: RungResult) -> None:
        """Add a finished rung to the waterfall; one that is there already is shown as it was measured last."""
        if self._lines:
            self._lines.rung(result)
        row = _row(result, None)
        if row.name in [known.name for known in self._rows]:
            self._rows = [row if known.name == row.name else known for known in self._rows]
        else:
            self._rows.append(row)
        self.stage("")

    def close(self) -> None:
        """Stop drawing and leave the screen clean. May be called twice."""
        if self._lines:
            self._lines.stage("")
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _draw(self) -> RenderableType:
        lines = [*self._head, *(_ladder(self._rows) if self._rows else [])]
        told = {row.note for row in self._rows}
        lines += _noted([note for note in self._notes if note not in told])
        lines += [Text("")] if self._rows or self._notes else []
        lines += self._now()
        return Group(*(line if self._unicode else _plain(line) for line in lines))

    def _now(self) -> list[Text]:
        """Return what runs now and for how long yet, and the clock."""
        what, done, total = self._work
        now = time.monotonic()
        spent, since = now - self._begun, now - self._work_begun
        stage = rung_title(self._stage) if self._stage else "working"
        line = Text(f" {stage:<10} ", style="bold").append(
            what.removeprefix(f"{self._stage}: "), style="not bold"
        )
        if total and since > PATIENCE:
            share = min(done / total, 1.0)
            line.append("  ").append_text(_meter(share, "green")).append(
                f" {100 * share:3.0f} %", style="not bold"
            )
            newly = done - self._work_from
            if newly > 0 and done < total:
                line.append(f"  {duration(since * (total - done) / newly)} left", style="not bold")
        clock = Text(f" {'time':<10} ", style="dim")
        if self._budget:
            clock.append_text(_meter(min(spent / self._budget, 1.0), "blue")).append(" ")
        clock.append(duration(spent) + (f" of {duration(self._budget)}" if self._budget else ""))
        line.truncate(WIDTH)
        return [line, clock]


def _meter(share: float, style: str) -> Text:
    full = round(share * BAR)
    return Text("━" * full, style=style).append("─" * (BAR - full), style="dim")
