"""The figures in plain words: what was measured, how sure it is, and why two of them differ."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fallow.record import Interval, RungResult, StudyResult
from fallow.report.data import ReportData
from fallow.report.words import beside_labels, percent, plural

RUNGS = {
    "probe": "a linear model, from the labeled images only",
    "blend": "a linear model, from the labeled images and the extra ones",
    "propagate": "labels spread to similar unlabeled images; a linear model learns from all",
    "finetune": "a network trained on the labeled images only",
    "joint": "the network trained on labeled and unlabeled images together",
    "pretrain": "a network learns from the unlabeled images alone; labels spread over what it sees",
    "noisy_student": "what was learned so far labels everything and teaches a student",
    "ensemble": "the average of the rungs that learned from the unlabeled images",
}
SHORT = {
    "probe": "linear probe",
    "blend": "linear model with the extra images",
    "propagate": "label propagation",
    "finetune": "fine-tuned network",
    "joint": "joint training",
    "pretrain": "pretraining and propagation",
}
_LABELS_ONLY = ("probe", "finetune")
_UNUSED = {
    "none": "No unlabeled images",
    "unusable": "No usable unlabeled images",
    "not asked": "No rung that learns from unlabeled images was asked for",
    "no time": "No time to learn from the unlabeled images",
    "no time then": "The run that this one follows had no time to learn from the unlabeled images",
}
_SAME = 0.005
"""Accuracies that differ by less read as the same."""
_END = re.compile(r"(?<=[^\s.])\.\s+(?=[A-Z0-9])")


@dataclass(frozen=True)
class Word:
    """A term of the page and what it means here."""

    term: str
    meaning: str


def rung_in_words(rung: str) -> str:
    """Return what a rung does, in a few words."""
    if rung.startswith("joint:"):
        return "the network, trained on labeled and unlabeled images together"
    return RUNGS.get(rung, "")


def short_name(rung: str) -> str:
    """Return a rung's name without jargon where there is one: ``label propagation`` for ``propagate``."""
    return SHORT.get(rung, rung.removeprefix("joint:").replace("_", " "))


def probe_there(row: RungResult, result: StudyResult) -> str:
    """Return a sentence with the probe's error on the labels that a rung was measured on; empty where it is that of its row.

    A dear rung is measured on fewer labels than the probe: its error, less its gain, is then not the error of the probe's row.
    """
    probe = next((r for r in result.rungs if r.rung == "probe"), row)
    if row.held_out is None or row.gain is None or probe.held_out is None:
        return ""
    there = row.held_out.value - row.gain.value
    if abs(there - probe.held_out.value) < _SAME:
        return ""
    return f"On the labels that it was measured on, the error of the probe is {percent(1 - there)}."


def first_sentence(text: str) -> tuple[str, str]:
    """Split a text into its first sentence and the rest."""
    parts = _END.split(text, maxsplit=1)
    return (parts[0] + ".", parts[1]) if len(parts) > 1 else (text, "")


def short_verdict(result: StudyResult) -> str:
    """Return the verdict without figures: for a screen that shows them right above it."""
    sentence = _without_figures(result)
    if result.extra is not None and not result.extra.weight:
        why = "as asked for" if result.extra.asked else "they did not help"
        sentence += f" Your {result.counts.extra:,} extra images were left out: {why}."
    return sentence


def learned_beside(result: StudyResult) -> str:
    """Return what the chosen rung learned from beside the labels: ``1,638 unlabeled images``."""
    return beside_labels(result.counts, result.chosen.rung != "blend", result.extra_learned)


def _without_figures(result: StudyResult) -> str:
    alone = f"your {plural(result.counts.labeled, 'label')} alone"
    by_extra = result.chosen.rung == "blend"
    if not by_extra and (result.pool_use != "learned" or not result.counts.unlabeled):
        return f"{_UNUSED.get(result.pool_use, _UNUSED['none'])}: this is the best model from {alone}."
    gain = _gain(result)
    lower = gain is None or round(100 * gain.value, 1) <= 0
    if result.chosen.rung == result.labels_only.rung:
        if gain is None:
            return (
                f"Chosen by experience with other data: the model from {alone}. With {result.why_unmeasured} it cannot be "
                "measured whether the unlabeled images help."
            )
        if lower and result.extra_learned:
            return "Neither unlabeled nor extra images helped: you get the model from labels alone."
        if lower:
            return "The unlabeled images did not help: you get the model from labels alone."
        return (
            f"Chosen by experience with other data: the model from {alone}. {plural(gain.n, 'held-out label')} that say "
            "otherwise are too few to outweigh it."
        )
    if gain is None:
        return (
            f"Chosen by experience with other data: with {result.why_unmeasured} nothing can be held out and no gain "
            "measured."
        )
    if result.claim:
        return "Better than labels alone: the 95 % interval of the gain is above zero."
    if lower:
        return "Chosen by experience with other data: on your held-out labels it was no better than labels alone."
    held = plural(gain.n, "held-out label")
    return f"Probably better than labels alone; {held} are too few to prove it."


def _gain(result: StudyResult) -> Interval | None:
    """Return the gain of the chosen rung; where labels alone were chosen, that of the best rung that lost."""
    if result.chosen.rung != result.labels_only.rung:
        return next((r.gain for r in result.rungs if r.rung == result.chosen.rung), None)
    lost = [r.gain for r in result.rungs if r.gain is not None and r.rung not in _LABELS_ONLY]
    return max(lost, key=lambda gain: gain.value, default=None)


def glossary(data: ReportData) -> list[Word]:
    """Return the terms of the waterfall, each with this run's own numbers; nothing where nothing was measured."""
    result = data.result
    held = next((r.held_out for r in result.rungs if r.held_out), None)
    if held is None:
        return []
    folds = _folds(data)
    words = [Word("Held-out", _held_out(data, folds))]
    words.append(
        Word(
            "95 % interval",
            f"{plural(held.n, 'label')} cannot tell an error exactly. The true one lies in this range in 19 of 20 such "
            "measurements; twice as narrow takes four times the labels.",
        )
    )
    if len(result.rungs) > 1:
        words.append(
            Word(
                "Gain",
                "Points of accuracy over labels only, image by image on the same held-out labels, so it is surer than "
                "two overlapping bars suggest. Above zero with its whole interval counts as proven.",
            )
        )
        words.append(
            Word(
                "P(better)",
                "How likely the rung beats the best one before it: these labels and earlier experience with other data "
                "sets, taken together. Above 50 % it is kept: waiting for proof would throw gains away. An expensive one that no "
                "label could be held out for needs 80 %.",
            )
        )
    words += _differences(data, folds)
    return words


def _folds(data: ReportData) -> int:
    for decision in data.decisions:
        if decision.name == "choose.folds" and isinstance(decision.value, int):
            return decision.value
    return 0


def _held_out(data: ReportData, folds: int) -> str:
    if not folds:
        return "The images of the validation split: no rung saw their labels when it was measured."
    part = "half of them" if folds == 2 else f"one in {folds}"
    return (
        f"Some labels ({part}, of every class) are hidden, a model learns from the others and names the hidden ones; then "
        "others are hidden, until each label was. No model ever saw a label it is measured on, nor a copy of its image."
    )


def _differences(data: ReportData, folds: int) -> list[Word]:
    """Return why the held-out figure is not the test figure, and why it is not a plain average."""
    result, words = data.result, []
    if folds >= 2:
        seen = "half" if folds == 2 else f"{100 * (folds - 1) // folds} %"
        text = f"The models behind the bars learned from {seen} of your labels; the one you get learned from all of them"
        if result.chosen.test is not None:
            text += (
                f", and test images are others, more of them ({result.counts.test:,}). So the test error is usually lower, and "
                "the surer figure"
            )
        words.append(
            Word(
                "Why held-out and test differ" if result.chosen.test is not None else "What you get",
                text + ".",
            )
        )
    if any(d.name == "choose.weights" and d.value == "pool mix" for d in data.decisions):
        plain = result.chosen.balanced_held_out
        text = (
            "Your unlabeled images do not seem to hold all classes equally often, so each held-out label counts with the "
            "estimated share of its class."
        )
        if plain is not None:
            text += f" With all classes alike, {short_name(result.chosen.rung)} has an error of {percent(1 - plain)}."
        words.append(Word("Weighted by class", text))
    if result.worth_labels:
        text = "A linear model learns from parts of your labels, and the fall of its error is carried on to more of them"
        note = f" ({result.labels_worth_note})" if result.labels_worth_note else ""
        words.append(Word("Worth in labels", f"{text}{note}."))
    kept = next((r for r in result.rungs if r.rung == result.chosen.rung), None)
    if (
        kept
        and kept.held_out
        and result.chosen.held_out
        and kept.held_out.value - result.chosen.held_out.value > 5e-4
    ):
        words.append(
            Word(
                "Corrected for the choice",
                "The best of several looks better than it is. The held-out accuracy at the top is lower than the bar by that "
                "much.",
            )
        )
    return words
