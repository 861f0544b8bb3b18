"""The bar of predict and evaluate."""

from __future__ import annotations

import io
import sys

import pytest

from fallow.verbs import watch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, patience: float, enabled: bool = True
) -> str:
    monkeypatch.setattr(watch, "PATIENCE", patience)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with watch.Watch("predicting", 10, enabled=enabled) as bar:
        for done in range(1, 11):
            bar(done)
    return stream.getvalue()


def test_a_bar_is_drawn_on_a_terminal_for_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _shown(monkeypatch, Terminal(), patience=0.0)
    assert "predicting" in text
    assert "10/10" in text


def test_nothing_is_drawn_for_short_work_or_away_from_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _shown(monkeypatch, Terminal(), patience=60.0) == ""
    assert _shown(monkeypatch, io.StringIO(), patience=0.0) == ""
    assert _shown(monkeypatch, Terminal(), patience=0.0, enabled=False) == ""
