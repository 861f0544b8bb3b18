"""The page of labels."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from fallow.record import Decision, Interval
from fallow.record.labels import ClassLabels, LabelSummary, RoundLabels
from fallow.report import Thumb, thumbnail
from fallow.report.label_page import label_screen, write_label_page

NASTY = '<script>alert("1")</script>'


def summary(accepted: int = 3) -> LabelSummary:
    precision = Interval(0.951, 0.9, 0.98, 100) if accepted else None
    return LabelSummary(
        asked={"precision": 0.95, "certify": True},
        precision=precision,
        coverage=accepted / 5,
        accepted=accepted,
        doubtful=5 - accepted,
        foreign=1,
        labels=100,
        sentence=f"{accepted} images of 6 labeled.",
        per_class={NASTY: ClassLabels(accepted, 4, 50, precision), "dog": ClassLabels(0, 1, 50)},
        models=(NASTY,),
        certified=0.901 if accepted else None,
        why="" if accepted else "nothing is sure",
        notes=("Mind the gap.",),
    )


def page(tmp_path: Path, made: LabelSummary) -> str:
    picture = thumbnail(np.zeros((8, 8, 3), np.uint8))
    pictures = {
        "accept": [Thumb(f"a/{NASTY}.png", picture, NASTY, 0.97)],
        "foreign": [Thumb("b.png", None, "dog", 0.4)],
    }
    decision = Decision("label.threshold", 0.8, "rule", "Because.", {"labels": 100})
    write_label_page(tmp_path / "labels.html", made, pictures, "photos", [decision])  # type: ignore[arg-type]
    return (tmp_path / "labels.html").read_text(encoding="utf-8")


def test_names_of_files_and_classes_are_escaped_and_no_script_runs(tmp_path: Path) -> None:
    text = page(tmp_path, summary())
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text
    assert "script-src" not in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


def test_the_page_tells_precision_certificate_and_what_is_to_be_looked_at(tmp_path: Path) -> None:
    text = page(tmp_path, summary()).replace("\xa0", " ")
    for words in (
        "95.1 %",
        "90.0 to 98.0",
        "≥ 90.1 %",
        "Mind the gap.",
        "Accepted, 3",
        "Doubtful, 2",
        "Foreign, 1",
        "label.threshold",
    ):
        assert words in text
    assert "prefers-color-scheme:dark" in text
    assert "width=device-width" in text


def test_a_page_of_nothing_accepted_has_no_grid_of_accepted(tmp_path: Path) -> None:
    text = page(tmp_path, summary(0))
    assert 'id="accept"' not in text
    assert 'id="doubtful"' in text


def test_the_last_screen_ends_with_where_everything_is() -> None:
    text = label_screen(summary(), Path("labels"), Path("labels/labels.html"))
    assert text.startswith("3 images of 6 labeled.")
    assert "3 accepted · 2 doubtful · 1 foreign · 100 held-out labels" in text
    assert text.endswith("labels/labels.csv · labels/labels.html\n")


def test_a_summary_comes_back_from_json_as_it_was() -> None:
    for made in (summary(), summary(0)):
        assert LabelSummary.from_json(made.to_json()) == made  # type: ignore[arg-type]


def test_rounds_are_told_with_what_became_of_them() -> None:
    held_out = Interval(0.9, 0.8, 0.95, 100)
    lines = (
        RoundLabels(1, 1200, Interval(0.95, 0.9, 0.98, 100), held_out, True, "made of the labels given"),
        RoundLabels(2, 0, None, None, False, "nothing was accepted"),
    )
    told = label_screen(replace(summary(), rounds=lines), Path("out"), Path("out/labels.html"))
    assert (
        " round 1, kept: 1,200 accepted, 95.0 % right, 90.0 % of the held-out labels named rightly; made of the labels given"
        in told
    )
    assert " round 2, dropped: nothing was accepted" in told
    again = LabelSummary.from_json(json.loads(json.dumps(replace(summary(), rounds=lines).to_json())))
    assert again.rounds == lines
