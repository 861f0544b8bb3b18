"""The sentence a person reads first: it says what the interval says, and nothing more."""

from __future__ import annotations

from fallow.record import Interval
from fallow.record.pretrained import Finding

ENOUGH = 5
"""Labels a class that decide whether features are better."""


def finding_of(difference: Interval | None) -> Finding:
    """Return what the paired difference says: better or worse where the 95 % interval excludes no difference."""
    if difference is None:
        return "undecided"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference"


def verdict(difference: Interval | None, start: str, images: int, few: str = "", labels: int = 0) -> str:
    """Return the verdict.

    Args:
        difference: Paired difference of the probe's accuracy, after less before.
        start: What the network was before, in words.
        images: Images it learned from.
        few: Why labels could not decide, to be read behind "not decidable".
        labels: How many of the images it learned from with their labels.
    """
    finding = finding_of(difference)
    if difference is None:
        return f"Not decidable {few or 'without labels'}; {ENOUGH} a class would decide it."
    points = 100 * difference.value
    interval = f"(95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}, {difference.n:,} labels)"
    if finding == "better":
        return (
            f"Better: a linear probe on the features is right {points:.1f} points more often than on those of {start} {interval}, "
            f"after learning from {images:,} images {_with(labels)}."
        )
    if finding == "worse":
        return (
            f"Worse: a linear probe on the features is right {-points:.1f} points less often than on those of {start} "
            f"{interval}. So model/ holds {start}, and trained/ what was learned."
        )
    direction = "less" if points < 0 else "more"
    return (
        f"No difference that can be shown: a linear probe on the features is right {abs(points):.1f} points {direction} often than "
        f"on those of {start} {interval}."
    )


def _with(labels: int) -> str:
    return f"with the labels of {labels:,}, none of which judges" if labels else "without their labels"
