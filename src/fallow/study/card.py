"""The model card: what the model is, what it was measured on, and what nobody should conclude from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fallow._version import __version__
from fallow.record import Scored
from fallow.study.context import RungContext
from fallow.types import RungName

if TYPE_CHECKING:
    from fallow.study.ladder import Study


def pixels_line(ctx: RungContext) -> str:
    """Return the line of a card that says what pixels the model takes."""
    scale = ctx.data.audit.scale
    deep = (
        ""
        if scale is None
        else f" Values with more than 8 bits were scaled so that {scale.low:g} is 0 and {scale.high:g} is 255, and clipped."
    )
    return (
        f"- **Pixels:** RGB, 8 bits, as stored; EXIF orientation applied; transparent parts over white.{deep}"
    )


def model_card(study: Study, ctx: RungContext, name: RungName, known: Scored | None = None) -> str:
    """Return the card's text (Markdown); the code that uses the model is added by the export room.

    Args:
        study: The run.
        ctx: Its data.
        name: The rung.
        known: Its figures as the result has them; None while the run goes on, when the card has them as they are so far.
    """
    row = known or next((r for r in study.results if r.rung == name), None)
    counts = ctx.data.counts
    held_out = row.held_out if row else None
    if held_out is None:
        measured = f"not measured: with {ctx.data.unmeasured} nothing can be held out"
        calibrated = "are not calibrated: nothing could be held out to calibrate them on."
    else:
        measured = (
            f"{100 * held_out.value:.1f} % on {held_out.n} held-out labels (95 % interval "
            f"{100 * held_out.low:.1f} to {100 * held_out.high:.1f})"
        )
        weights = ctx.decisions.get("choose.weights")
        if weights is not None and weights.value == "pool mix":
            measured += ", weighted by the estimated class shares of the unlabeled images"
        calibrated = "are calibrated on held-out labels; with few labels the calibration is rough."
    if row and row.test is not None:
        measured += f"; {100 * row.test:.1f} % on {counts.test:,} test images"
    if known is None:
        measured += " (so far: the run that made this model has not ended)"
    spaces = ", ".join(
        f"{name} at {size} px" for name, size in zip(ctx.plan.backbones, ctx.plan.sizes, strict=True)
    )
    beside = f", with {counts.extra} extra ones of another origin beside them" if counts.extra else ""
    return f"""# {ctx.task.name}: {counts.classes} classes

Made by fallow {__version__}, rung `{name}`, on {counts.labeled} labeled and {counts.unlabeled} unlabeled images{beside}.

- **Classes:** {", ".join(ctx.data.classes)}
- **Vectors:** {spaces}
- **Accuracy:** {measured}
- **Probabilities** {calibrated}
{pixels_line(ctx)}

The model knows these classes only and names one of them for every image, a foreign one too. Its figures hold for images
like the ones it was measured on.
"""
