"""The sentence a person reads first. It claims only what was measured."""

from __future__ import annotations

from fallow.record import ONE_LABEL, Counts, ExtraUse, Interval, PoolUse, Scored
from fallow.report.words import beside_labels

_WORDS = {
    "probe": "a linear probe",
    "blend": "a linear model that learned from the extra images too",
    "propagate": "label propagation",
    "finetune": "a fine-tuned network",
    "joint": "joint training",
    "pretrain": "pretraining and propagation",
    "noisy_student": "the noisy student",
    "ensemble": "the ensemble",
}


def verdict(
    counts: Counts,
    labels_only: Scored,
    chosen: Scored,
    gain: Interval | None,
    claim: bool,
    worth: int | None,
    pool_use: PoolUse = "learned",
    mixed: bool = False,
    unmeasured: str = ONE_LABEL,
    extra: ExtraUse | None = None,
) -> str:
    """Return the verdict on a run.

    Args:
        counts: Images that took part.
        labels_only: The honest opponent.
        chosen: What the user gets.
        gain: Paired gain on held-out labels, over labels only, of what was learned from the unlabeled images: of the
            chosen rung, or of the best that lost; None where nothing could be held out.
        claim: Whether the 95 % interval of the gain excludes no gain.
        worth: Labels that the unlabeled images were worth.
        pool_use: Whether anything learned from the unlabeled images, or why nothing did.
        mixed: Held-out figures are weighted to the pool's estimated class shares, which differ much.
        unmeasured: Why nothing could be held out, where that is so.
        extra: What became of extra images; None where there were none.
    """
    alone, blended = chosen.rung == labels_only.rung, chosen.rung == "blend"
    taught = extra is not None and extra.weight > 0
    others = beside_labels(counts, not blended, taught)
    won = "" if alone else _won(others, _name(labels_only.rung), _name(chosen.rung), gain, claim, unmeasured)
    if pool_use != "learned":
        used = f"{counts.labeled:,} labels and {counts.extra:,} extra images" if blended else ""
        sentence = _unused(counts, _name(labels_only.rung if alone else chosen.rung), pool_use, used)
        sentence += f" {won}" if blended else ""
    elif alone:
        sentence = _lost(counts, _name(labels_only.rung), gain, mixed, unmeasured, others)
    else:
        sentence = won
    if extra is not None and not blended:
        sentence += _of_extra(counts.extra, extra)
    if chosen.test is not None:
        sentence += f" On {counts.test:,} test images: {_both(chosen.test, labels_only.test, alone)}."
    if mixed and chosen.balanced_held_out is not None:
        shown = _both(chosen.balanced_held_out, labels_only.balanced_held_out, alone)
        sentence += f" Held-out figures follow the pool's estimated class shares; with all classes counted alike it is {shown}."
    if worth and claim and not alone:
        sentence += f" {'They' if not taught else f'The {others}'} were worth about {worth:,} labels."
    return sentence


def _of_extra(count: int, extra: ExtraUse) -> str:
    """Say what became of the extra images, where they are not what the verdict is about."""
    images = f"your {count:,} extra images"
    if not extra.weight:
        why = "as asked for" if extra.asked else "they did not help to name your own labels"
        return f" Y{images[1:]} were left out: {why}."
    counted = f"counted {extra.weight:g} times as much as your labels"
    if extra.gain is None:
        return f" Y{images[1:]} were {counted}."
    return (
        f" By themselves {images}, {counted}, made a linear model {_better(extra.gain)} on held-out labels "
        f"{_interval(extra.gain)}."
    )


def _better(gain: Interval) -> str:
    shown = points(gain)
    return "no better" if shown == 0 else f"{abs(shown):.1f} points {'worse' if shown < 0 else 'better'}"


def _unused(counts: Counts, opponent: str, why: PoolUse, used: str) -> str:
    best = f"this is the best model from your {used or f'{counts.labeled:,} labels alone'} ({opponent})"
    images = f"the {counts.unlabeled:,} unlabeled images"
    if why == "no time":
        return f"The budget left no time to learn from the unlabeled images, so {best}: give a larger one."
    if why == "no time then":
        return (
            f"The run that this one follows had no time to learn from {images}, so {best}: start without its config and "
            "with a larger budget."
        )
    if why == "not asked":
        return (
            f"Only rungs that do without unlabeled images were asked for: {images} were not used, and {best}."
        )
    if why == "unusable":
        return f"There were no usable unlabeled images: all were damaged or copies of others. So {best}."
    return f"There were no unlabeled images, so {best}."


def _lost(
    counts: Counts, opponent: str, gain: Interval | None, mixed: bool, unmeasured: str, others: str
) -> str:
    images = f"the {others}"
    if gain is None:
        return (
            f"Chosen by experience on other data, not by measurement: you get {opponent} from your {counts.labeled:,} labels "
            f"alone; with {unmeasured} it cannot be measured whether {images} help."
        )
    if points(gain) <= 0:
        return (
            f"Labels alone were better: {images} did not help. With them it was {_moved(gain)} on held-out labels "
            f"{_interval(gain)}; you get {opponent}."
        )
    against = "experience on other data" + (" and the labels counted as they are" if mixed else "")
    return (
        f"Labels alone were chosen: with {images} it was {_moved(gain)} on your held-out labels {_interval(gain)}, which does "
        f"not outweigh {against}; you get {opponent}."
    )


def _won(others: str, opponent: str, name: str, gain: Interval | None, claim: bool, unmeasured: str) -> str:
    if gain is None:
        return (
            f"Chosen by experience on other data, not by measurement: {name}; with {unmeasured} a gain "
            "cannot be measured on held-out labels."
        )
    if claim:
        return (
            f"Your {others} made the model better: {100 * gain.value:+.1f} points over "
            f"{opponent} on held-out labels {_interval(gain)}."
        )
    if points(gain) <= 0:
        return (
            f"Chosen by experience on other data: {name}; on your held-out labels it was {_moved(gain)} than {opponent} "
            f"{_interval(gain)}."
        )
    if gain.low > 0:  # weighted to the pool's mix it is proven, and a claim needs both
        return (
            f"Probably better with your {others}: {100 * gain.value:+.1f} points over "
            f"{opponent} on held-out labels {_interval(gain)}, but not proven with the labels counted as they are."
        )
    return (
        f"Probably better with your {others}: {100 * gain.value:+.1f} points over {opponent} "
        f"on held-out labels, but {gain.n} labels cannot prove it {_interval(gain)}."
    )


def points(gain: Interval) -> float:
    """Return a gain in points as it is shown: what is shown as 0.0 is no gain."""
    return round(100 * gain.value, 1)


def _moved(gain: Interval) -> str:
    shown = points(gain)
    return "no better" if shown == 0 else f"{abs(shown):.1f} points {'lower' if shown < 0 else 'higher'}"


def _interval(gain: Interval) -> str:
    return f"(95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def _both(chosen: float, base: float | None, alone: bool) -> str:
    shown = f"{100 * chosen:.1f} %"
    return shown if alone or base is None else f"{shown} against {100 * base:.1f} %"


def _name(rung: str) -> str:
    return _WORDS.get(rung, rung)
