"""The sentence a person reads first. It claims only what was measured."""

from __future__ import annotations

from fallow.record import Counts, Interval, Scored

_WORDS = {"probe": "a linear probe", "propagate": "label propagation"}


def verdict(
    counts: Counts,
    labels_only: Scored,
    chosen: Scored,
    gain: Interval | None,
    claim: bool,
    worth: int | None,
    mixed: bool = False,
    cut: bool = False,
) -> str:
    """Return the verdict on a run.

    Args:
        counts: Images that took part.
        labels_only: The honest opponent.
        chosen: What the user gets.
        gain: Paired gain of chosen over labels only on held-out labels; None where nothing could be held out.
        claim: Whether the 95 % interval of the gain excludes no gain.
        worth: Labels that the unlabeled images were worth.
        cut: The budget left no time for what needs the unlabeled images.
        mixed: Held-out figures are weighted to the pool's estimated class shares, which differ much.
    """
    opponent = _WORDS.get(labels_only.rung, labels_only.rung)
    if cut:
        sentence = (
            "The budget left no time to learn from the unlabeled images, so this is the best model from your "
            f"{counts.labeled} labels alone ({opponent}): give a larger one."
        )
    elif counts.unlabeled == 0:
        sentence = f"There were no unlabeled images, so this is the best model from your {counts.labeled} labels alone ({opponent})."
    elif chosen.rung == labels_only.rung:
        sentence = f"Labels alone were better: the {counts.unlabeled:,} unlabeled images did not help, and you get {opponent}."
    elif gain is None:
        sentence = (
            f"Chosen by experience on other data, not by measurement: {_name(chosen.rung)}; with one label in a class a gain "
            "cannot be measured on held-out labels."
        )
    elif claim:
        sentence = (
            f"Your {counts.unlabeled:,} unlabeled images made the model better: {100 * gain.value:+.1f} points over "
            f"{opponent} on held-out labels (95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})."
        )
    else:
        sentence = (
            f"Probably better with your {counts.unlabeled:,} unlabeled images: {100 * gain.value:+.1f} points over {opponent} "
            f"on held-out labels, but {gain.n} labels cannot prove it (95 % interval {100 * gain.low:+.1f} to "
            f"{100 * gain.high:+.1f})."
        )
    if chosen.test is not None and labels_only.test is not None and chosen.rung != labels_only.rung:
        sentence += f" On {counts.test:,} test images: {100 * chosen.test:.1f} % against {100 * labels_only.test:.1f} %."
    elif chosen.test is not None:
        sentence += f" On {counts.test:,} test images: {100 * chosen.test:.1f} %."
    if mixed and chosen.balanced_held_out is not None and labels_only.balanced_held_out is not None:
        sentence += (
            " Held-out figures follow the pool's estimated class shares; with all classes counted alike it is "
            f"{100 * chosen.balanced_held_out:.1f} % against {100 * labels_only.balanced_held_out:.1f} %."
        )
    if worth and claim:
        sentence += f" They were worth about {worth:,} labels."
    return sentence


def _name(rung: str) -> str:
    return _WORDS.get(rung, rung)
