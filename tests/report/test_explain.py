from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.record import Counts, Decision, Interval
from fallow.report.explain import (
    first_sentence,
    glossary,
    probe_there,
    rung_in_words,
    short_name,
    short_verdict,
)
from fallow.report.view import steps
from tests.report.sample import bare, complete, result
from tests.report.test_terminal import screen


def terms(**changes: object) -> dict[str, str]:
    data = replace(complete(), **changes)  # type: ignore[arg-type]
    return {word.term: word.meaning for word in glossary(data)}


def folds(value: int) -> list[Decision]:
    return [Decision("choose.folds", value, "rule", "As many as there are.")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It helped. On 4 images: 5.", ("It helped.", "On 4 images: 5.")),
        (
            "By 3.5 points (95 % interval 1.2 to 5.8). 336 images.",
            ("By 3.5 points (95 % interval 1.2 to 5.8).", "336 images."),
        ),
        ("One sentence only.", ("One sentence only.", "")),
        ("", ("", "")),
    ],
)
def test_a_text_is_split_after_its_first_sentence(text: str, parts: tuple[str, str]) -> None:
    assert first_sentence(text) == parts


def test_why_half_of_the_labels_measure_a_higher_error() -> None:
    assert "half of your labels" in terms(decisions=folds(2))["Why held-out and test differ"]
    assert "80 % of your labels" in terms(decisions=folds(5))["Why held-out and test differ"]
    without = replace(result(), chosen=replace(result().chosen, test=None))
    assert "What you get" in terms(decisions=folds(5), result=without)


def test_weights_and_the_correction_for_the_choice_are_told_where_there_are_any() -> None:
    assert not {"Weighted by class", "Corrected for the choice"} & set(terms())
    weighted = [Decision("choose.weights", "pool mix", "rule", "They differ.")]
    chosen = replace(result().chosen, balanced_held_out=0.8, held_out=Interval(0.83, 0.8, 0.86, 210))
    found = terms(decisions=weighted, result=result(chosen=chosen))
    assert "20.0 %" in found["Weighted by class"]
    assert "Corrected for the choice" in found


def test_a_gain_on_fewer_labels_comes_with_the_probes_error_there() -> None:
    probe, spread, _ = result().rungs
    few = replace(spread, held_out=Interval(0.65, 0.43, 0.82, 20), gain=Interval(0.1, 0.0, 0.25, 20))
    assert (
        probe_there(few, result())
        == "On the labels that it was measured on, the error of the probe is 45.0 %."
    )
    assert [probe_there(row, result()) for row in (probe, spread)] == ["", ""]
    shown = result(rungs=(probe, few))
    assert "probe is 45.0 %" in " ".join(screen(shown).split())
    assert "█ +10.0 ± 12.5" in screen(shown)
    assert "probe is 45.0 %" in " ".join(step.note for step in steps(shown))


def test_nothing_is_explained_where_nothing_was_measured() -> None:
    assert glossary(bare()) == []


def test_the_short_verdict_repeats_no_figure_of_the_lines_above() -> None:
    unsure = replace(result(), claim=False)
    probe, spread, _ = result().rungs
    lost = replace(spread, gain=Interval(-0.02, -0.06, 0.02, 210))
    alone = replace(result(), chosen=result().labels_only, rungs=(probe, lost))
    no_pool = replace(alone, counts=Counts(42, 0, 420, 21))
    blind = replace(
        result(), rungs=tuple(replace(r, held_out=None, gain=None) for r in result().rungs), claim=False
    )
    said = [short_verdict(r) for r in (result(), unsure, alone, no_pool, blind)]
    assert len(set(said)) == 5
    assert not any("84.8" in text or "12.2" in text or "1,638" in text for text in said)
    assert said[0].startswith("Better")
    assert "210 held-out labels" in said[1]
    assert "did not help" in said[2]
    assert "42 labels alone" in said[3]
    assert "one label in a class" in said[4]


def test_every_rung_has_a_name_without_jargon() -> None:
    assert short_name("propagate") == "label propagation"
    assert short_name("joint:softmatch") == "softmatch"
    assert "together" in rung_in_words("joint:softmatch")
    assert rung_in_words("something new") == ""
