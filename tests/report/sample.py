"""A report's data, complete and made up, and one with everything missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fallow.augment import STANDARD, STRENGTHS, TRANSFORMS, ReachRow
from fallow.record import (
    Counts,
    Decision,
    Interval,
    RungResult,
    Scored,
    StudyResult,
    Waterfall,
    WaterfallBar,
)
from fallow.report import ClassRow, MapPoint, ReportData, Thumb, thumbnail


def interval(value: float, half: float = 0.04, n: int = 210) -> Interval:
    return Interval(value, value - half, value + half, n)


def result(**changes: object) -> StudyResult:
    probe = RungResult("probe", interval(0.726, 0.05), 0.726, kept=False, seconds=4.1)
    spread = RungResult(
        "propagate",
        interval(0.848),
        0.848,
        kept=True,
        p_better=0.99,
        gain=interval(0.122, 0.041),
        seconds=9.3,
    )
    tuned = RungResult(
        "finetune",
        interval(0.700, 0.04, 84),
        0.70,
        p_better=0.41,
        gain=interval(-0.026, 0.044, 84),
        seconds=148,
        note="cut short at step 120 of 400: the budget was used up; measured on 2 of 5 folds",
    )
    rungs = (probe, spread, tuned)
    bars = tuple(
        WaterfallBar(
            r.rung,
            Interval(1 - r.held_out.value, 1 - r.held_out.high, 1 - r.held_out.low, r.held_out.n),
            r.gain,
            r.seconds,
            r.rung == "propagate",
            5,
        )
        for r in rungs
        if r.held_out
    )
    whole = StudyResult(
        "classification",
        0,
        182.0,
        Counts(42, 1638, 420, 21, skipped=3),
        probe,
        spread,
        rungs,
        True,
        "The unlabeled images helped: 84.8 % of held-out images are right, against 72.6 % with labels only "
        "(12.2 ± 4.1 points better).",
        worth_labels=160,
        labels_worth_note="labels only would need about 160 labels for the same accuracy",
        waterfall=Waterfall(bars),
        export_agreement=0.998,
        test_reads=("after the choice",),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def picture(rng: np.random.Generator, side: int = 56) -> bytes:
    base = rng.integers(40, 220, (4, 4, 3), dtype=np.uint8)
    return thumbnail(np.kron(base, np.ones((16, 16, 1), np.uint8)), side)


def complete(classes: int = 21, points: int = 400, prefix: str = "class ") -> ReportData:
    rng = np.random.default_rng(0)
    names = [f"{prefix}{i}" for i in range(classes)]
    centers = rng.normal(0, 1, (classes, 2))
    pictures = [picture(rng) for _ in range(12)]

    def point(i: int) -> MapPoint:
        c = int(rng.integers(classes))
        x, y = centers[c] + rng.normal(0, 0.12, 2)
        other = int(rng.integers(classes)) if rng.random() < 0.3 else c
        if i < 42:
            return MapPoint(x, y, f"train/{names[c]}/{i}.jpg", "labeled", names[c], thumb=pictures[i % 12])
        sure, surer = rng.random(), 0.5 + rng.random() / 2
        return MapPoint(
            x,
            y,
            f"unlabeled/{i}.jpg",
            "unlabeled",
            None,
            names[other],
            sure,
            names[c],
            surer,
            pictures[i % 12],
        )

    def thumb(i: int, truth: bool) -> Thumb:
        guess = names[i % classes]
        return Thumb(
            f"img/{i}.jpg",
            pictures[i % 12],
            guess,
            0.99 - i / 50,
            names[(i + 1) % classes] if truth else None,
        )

    matrix = rng.integers(0, 2, (classes, classes)) * (rng.random((classes, classes)) < 0.2)
    matrix[np.arange(classes), np.arange(classes)] = 17
    reach = [
        ReachRow(t, s, 0.6 * s, 0.3 * s**2, 48, 2 * s)
        for t in STANDARD
        for s in (STRENGTHS if TRANSFORMS[t].graded else (1.0,))
    ]
    return ReportData(
        result=result(),
        run_name="coral-otter",
        classes=names,
        decisions=[
            Decision(
                "embed.views",
                "turns",
                "search",
                "The best on held-out labels.",
                {"none": 0.81, "turns": 0.848},
            ),
            Decision("propagate.neighbors", 12, "rule", "Grows with the pool.", {"pool": 1638}),
            Decision("choose.folds", 2, "user", "You asked for it.", {}, True),
        ],
        audit={
            "source": "class folders in photos/",
            "class_counts": {"train": dict.fromkeys(names, 2), "val": {}, "test": dict.fromkeys(names, 20)},
            "skipped": [
                {
                    "id": "train/a/broken.jpg",
                    "kind": "truncated",
                    "reason": "the file ends early",
                    "split": "train",
                },
                {"id": "notes.txt", "kind": "not_an_image", "reason": "not an image", "split": ""},
            ],
            "twins": [{"ids": ["u/1.jpg", "u/2.png"], "how": "encoded again"}],
            "leaks": [
                {
                    "id": "train/a/9.jpg",
                    "split": "train",
                    "twin": "test/a/1.jpg",
                    "twin_split": "test",
                    "how": "same file",
                }
            ],
            "conflicts": [
                {"ids": ["train/a/3.jpg", "train/b/4.jpg"], "labels": ["a", "b"], "how": "same pixels"}
            ],
        },
        audit_thumbs={"u/1.jpg": pictures[0], "u/2.png": pictures[1], "train/a/broken.jpg": None},
        confusion=matrix,
        confusion_source="test",
        per_class=[
            ClassRow(n, 20, 0.7 + 0.3 * rng.random(), 0.6 + 0.4 * rng.random(), 0.5 + 0.4 * rng.random())
            for n in names
        ],
        reach=reach,
        map_points=[point(i) for i in range(points)],
        map_names=("Labels only", "Chosen"),
        misclassified=[thumb(i, True) for i in range(14)],
        surest=[thumb(i, False) for i in range(20)],
        doubtful=[thumb(i + 20, False) for i in range(20)],
        environment={"fallow": "0.1.0", "Python": "3.11.2", "machine": "Linux x86_64, 2 cores", "threads": 2},
        command="fallow train photos/ --config runs/coral-otter/config.yaml --out runs/coral-otter-again",
        data="photos/",
        budget_seconds=360,
        notes=["finetune was cut short: 148 s were needed and 120 s were left."],
    )


def bare() -> ReportData:
    """Nothing held out, no test split, no unlabeled images."""
    probe = RungResult("probe", None, None, kept=True, seconds=0.4)
    nothing = result(
        counts=Counts(3, 0, 0, 3),
        labels_only=Scored("probe"),
        chosen=Scored("probe"),
        rungs=(probe,),
        claim=False,
        verdict="This cannot be measured with one label a class.",
        worth_labels=None,
        labels_worth_note="",
        waterfall=Waterfall(),
        export_agreement=None,
        test_reads=(),
    )
    return ReportData(nothing, "bare", ["a", "b", "c"])
