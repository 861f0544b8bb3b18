"""The model card: what the model is, what it was measured on, and what nobody should conclude from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fallow._version import __version__
from fallow.study.context import RungContext
from fallow.types import RungName

if TYPE_CHECKING:
    from fallow.study.ladder import Study


def model_card(study: Study, ctx: RungContext, name: RungName) -> str:
    """Return the card's text (Markdown); the code that uses the model is added by the export room."""
    row = next((r for r in study.results if r.rung == name), None)
    counts = ctx.data.counts
    measured = (
        f"{100 * row.held_out.value:.1f} % on {row.held_out.n} held-out labels (95 % interval "
        f"{100 * row.held_out.low:.1f} to {100 * row.held_out.high:.1f})"
        if row and row.held_out
        else "not measured: with one label in a class nothing can be held out"
    )
    spaces = ", ".join(
        f"{name} at {size} px" for name, size in zip(ctx.plan.backbones, ctx.plan.sizes, strict=True)
    )
    scale = ctx.data.audit.scale
    deep = (
        ""
        if scale is None
        else f" Values with more than 8 bits were scaled so that {scale.low:g} is 0 and {scale.high:g} is 255, and clipped."
    )
    return f"""# {ctx.task.name}: {counts.classes} classes

Made by fallow {__version__}, rung `{name}`, on {counts.labeled} labeled and {counts.unlabeled} unlabeled images.

- **Classes:** {", ".join(ctx.data.classes)}
- **Vectors:** {spaces}
- **Accuracy:** {measured}
- **Probabilities** are calibrated on held-out labels; with few labels the calibration is rough.
- **Pixels:** RGB, 8 bits, as stored; EXIF orientation applied; transparent parts over white.{deep}

The model knows these classes only and names one of them for every image, a foreign one too. Its figures hold for images
like the ones it was measured on.
"""
