"""The last screen of ``fallow distill``: teacher and student side by side."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from fallow.report.words import duration, percent, plural
from fallow.types import JsonObject

_WIDTH = 79
_TITLES = {"teacher": "teacher", "student": "student", "int8": "8 bits"}


def distilled_screen(figures: JsonObject, model: Path) -> str:
    """Return what ``fallow distill`` prints at its end, within 80 columns but for long paths.

    Args:
        figures: The content of ``distill.json``.
        model: The student's folder.
    """
    found: Any = figures
    student, models = found["student"], found["models"]
    tested = found["measured_on"] == "test"
    lines = [
        "",
        f" fallow  {found['data']}",
        f" student {student['network']} at {student['size']} px, {student['weights']:,} weights",
        "",
        f" {'':<9}{'test accuracy' if tested else '':<15}{'agrees with teacher':<21}{'ms an image':>11}{'':<11}{'size':>9}",
    ]
    base = models["teacher"]
    for name, row in models.items():
        accuracy = percent(row["accuracy"]["value"]) if row["accuracy"] else ""
        agrees = "" if name == "teacher" else percent(row["agreement"])
        times = base["latency_ms"] / row["latency_ms"]
        faster = "" if name == "teacher" else f" {times:.{0 if times >= 10 else 1}f} x faster"
        size = "" if row["bytes"] is None else f"{row['bytes'] / 2**20:.1f} MB"
        lines.append(
            f" {_TITLES[name]:<9}{accuracy:<15}{agrees:<21}{row['latency_ms']:>11.1f}{faster:<13}{size:>9}".rstrip()
        )
    lines += ["", *(f" {part}" for part in textwrap.wrap(kept_sentence(found), _WIDTH))]
    for note in found["notes"]:
        first, *rest = textwrap.wrap(note, _WIDTH - 9)
        lines += [f" note    {first}", *(f"         {part}" for part in rest)]
    lines += ["", f" model   {model / 'model.onnx'}"]
    if "int8" in models:
        lines.append(f"         {model / 'model.int8.onnx'}")
    lines.append(f" time    {duration(found['seconds'])}")
    return "\n".join(lines) + "\n"


def kept_sentence(figures: JsonObject) -> str:
    """Return in words what the student kept."""
    found: Any = figures
    teacher, student = found["models"]["teacher"], found["models"]["student"]
    if found["measured_on"] != "test":
        return (
            f"The student names what its teacher names on {percent(student['agreement'])} of {plural(found['images'], 'image')} "
            "that it did not learn from. How often both are right nobody can tell without a test split."
        )
    share = student["accuracy"]["value"] / max(teacher["accuracy"]["value"], 1e-9)
    gap = found["difference"]
    return (
        f"The student kept {percent(share)} of its teacher's accuracy on {plural(found['images'], 'test image')}: "
        f"{100 * gap['value']:+.1f} points (95 % interval {100 * gap['low']:+.1f} to {100 * gap['high']:+.1f})."
    )
