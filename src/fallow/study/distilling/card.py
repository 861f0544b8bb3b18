"""The card of a student."""

from __future__ import annotations

from collections.abc import Sequence

from fallow._version import __version__
from fallow.study.card import pixels_line
from fallow.study.context import RungContext
from fallow.study.distilling.student import Student


def student_card(ctx: RungContext, student: Student, teachers: Sequence[str]) -> str:
    """Return the card's text (Markdown); the code that uses the model is added by the export room."""
    counts = ctx.data.counts
    return f"""# {ctx.task.name}: {counts.classes} classes, distilled

Made by fallow {__version__}: `{student.backbone}` at {student.size} px with {student.params:,} weights learned what
{", ".join(f"`{name}`" for name in teachers)} says of {len(ctx.pool):,} images.

- **Classes:** {", ".join(ctx.data.classes)}
- **Accuracy:** beside its teacher's in `distill.json` of the run.
- **Probabilities** are as its teacher's: calibrated as far as those are.
{pixels_line(ctx)}

The model knows these classes only and names one of them for every image, a foreign one too.
"""
