"""What the tests of bad input look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Ran


def refused(ran: Ran, *named: str) -> None:
    """The promise: code 2, nothing on stdout, one sentence at the end of stderr that names what is wrong."""
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err.endswith("\n")
    *told, sentence = ran.err.splitlines()
    assert all(line.startswith("fallow  ") for line in told), ran.err  # what was finished before
    assert sentence.startswith("fallow: ")
    for text in named:
        assert text in sentence, ran.err


def audit(run: Path) -> dict[str, Any]:
    return json.loads((run / "audit.json").read_text(encoding="utf-8"))


def skipped(run: Path) -> dict[str, str]:
    return {item["id"]: item["kind"] for item in audit(run)["skipped"]}


def counts(run: Path) -> dict[str, int]:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))["counts"]
