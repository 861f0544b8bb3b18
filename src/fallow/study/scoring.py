"""The test split: asked once, after the choice, and every time it is asked is written down."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fallow.errors import RunError
from fallow.export import Deployed, load_bundle
from fallow.record import Decision, read_json, write_json
from fallow.record.rundir import append_line, read_lines
from fallow.study.context import RungContext
from fallow.study.rung import ImageSet
from fallow.types import RungName

if TYPE_CHECKING:
    from fallow.study.ladder import Study

Probs = NDArray[np.float32]
Counted = NDArray[np.int64]
EXPORTED, VECTORS = "model.onnx", "cached vectors"
_SHARE = 0.4
"""Share of the time left that scoring the test split through the exported file may take."""
_TIMED = 8


@dataclass(frozen=True)
class Tested:
    """What came out on the test split.

    Attributes:
        scores: Accuracy and mean recall of each rung.
        confusion: How often each rung named which class, (classes, classes): rows are the true class.
        agreement: Share of images on which the exported file names the class that the model in memory names.
        reads: Every rung whose answers were compared with the test labels, as often as they were.
    """

    scores: dict[RungName, tuple[float, float]] = field(default_factory=dict)
    confusion: dict[RungName, Counted] = field(default_factory=dict)
    agreement: float | None = None
    reads: tuple[RungName, ...] = ()


def decide_scoring(study: Study, ctx: RungContext) -> Decision:
    """Decide whether the test split goes through the exported file: the very thing the user gets, where time allows."""
    deployed, count = load_bundle(study.run.model), len(ctx.data.test_ids)
    ids = ctx.data.labeled_ids[:_TIMED]
    list(deployed.stream(ids[:1], ctx.data.reader.read))  # the first call loads the network
    started = time.monotonic()
    list(deployed.stream(ids, ctx.data.reader.read))
    each = (time.monotonic() - started) / len(ids)
    left = max(study.clock.left - study.pace.reserve, 0.0)
    fits = count * each <= _SHARE * left
    return Decision(
        "test.scored_by",
        EXPORTED if fits else VECTORS,
        "rule",
        "The chosen rung's test images go through the exported file one at a time when that takes at most "
        f"{_SHARE:.0%} of the time left; else through the cached vectors of the same network, and the file is compared "
        f"with them on {study.pace.compared} images.",
        {"images": count, "seconds_an_image": round(each, 5), "seconds_left": round(left, 1)},
    )


def score(
    study: Study, ctx: RungContext, chosen: RungName, through: str, opponent: RungName = "probe"
) -> Tested:
    """Score the finished rungs on the test split; the choice is on disk before the first test label is read.

    Chosen rung and opponent are asked always, another trained rung where the time left holds its answers. What the rungs say
    is kept before it is compared with a label, and the scores are kept too: a run that goes on does not read the labels again.
    A read is written down before it happens, so that none is lost.
    """
    if not ctx.data.test_ids:
        return Tested(
            agreement=_agreement(
                study, ctx, chosen, ctx.data.images(ctx.data.labeled_ids[: study.pace.compared])
            )
        )
    study.screen.stage("test")
    images = ctx.data.images(ctx.data.test_ids)
    probs: dict[RungName, Probs] = {}
    for name in dict.fromkeys((chosen, opponent, *study.finals)):
        if name in (chosen, opponent) or _in_time(study, name, len(images)):
            probs[name] = _said(study, images, name, name == chosen and through == EXPORTED)
    if late := [name for name in study.finals if name not in probs]:
        study.notes.append(f"{', '.join(late)}: not asked about the test images, for the time was up.")
    if through == EXPORTED:
        in_memory = study.finals[chosen].predict(images).probs.numpy()
        agreement = float((in_memory.argmax(1) == probs[chosen].argmax(1)).mean())
    else:
        agreement = _agreement(study, ctx, chosen, images.part(slice(0, study.pace.compared)))
    confusion = _confusion(study, ctx, probs)
    scores = {name: accuracies(counted) for name, counted in confusion.items()}
    reads = tuple(str(line["rung"]) for line in read_lines(study.run.test_reads) if "rung" in line)
    return Tested(scores, confusion, agreement, reads)


def _in_time(study: Study, name: RungName, images: int) -> bool:
    """Say whether a rung can be asked about the test images that need not be; what it said before is kept."""
    return study.pace.holds(study.pace.owed.get(name, 0.0)) or study.stages[name].test(images) is not None


def _said(study: Study, images: ImageSet, name: RungName, exported: bool) -> Probs:
    """Return what a rung says of the test images: kept, through the exported file, or through cached vectors."""
    stage = study.stages[name]
    kept = stage.test(len(images))
    if kept is None:
        deployed = load_bundle(study.run.model) if exported else None
        kept = (
            study.finals[name].predict(images).probs.numpy()
            if deployed is None
            else _through(study, deployed, images)
        )
        stage.keep_test(kept)
    return kept


def _through(study: Study, deployed: Deployed, images: ImageSet) -> Probs:
    said = np.zeros((len(images), len(deployed.classes)), np.float32)
    for row, (_, probs) in enumerate(deployed.stream(images.ids, images.read)):
        assert probs is not None  # every test image was decoded by the audit
        said[row] = probs
        study.screen.progress("test images through model.onnx", row + 1, len(images))
    return said


def _confusion(study: Study, ctx: RungContext, probs: dict[RungName, Probs]) -> dict[RungName, Counted]:
    """Compare what the rungs say with the test labels, once: what scores and report need of it is kept."""
    path, classes = study.run.path / "test.json", len(ctx.data.classes)
    try:
        kept = read_json(path)
        return {name: _dense(kept[name]["counted"], classes) for name in kept}
    except (RunError, KeyError, TypeError, ValueError, IndexError):
        pass  # not read yet
    for name in probs:
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "rung": name, "images": len(ctx.data.test_ids)}
        append_line(study.run.test_reads, line)
    truth, found, written = ctx.data.test_classes(), {}, {}
    for name, said in probs.items():
        counted = np.zeros((classes, classes), np.int64)
        np.add.at(counted, (truth, said.argmax(1)), 1)
        accuracy, balanced = accuracies(counted)
        cells = [[int(t), int(g), int(counted[t, g])] for t, g in np.argwhere(counted)]
        found[name] = counted
        written[name] = {"accuracy": accuracy, "balanced": balanced, "counted": cells}
    write_json(path, written)
    return found


def _dense(cells: list[list[int]], classes: int) -> Counted:
    counted = np.zeros((classes, classes), np.int64)
    for truth, guess, count in cells:
        counted[truth, guess] = count
    return counted


def accuracies(counted: Counted) -> tuple[float, float]:
    """Return accuracy and mean recall over the classes that occur, from how often each class was named what."""
    of = counted.sum(1)
    right, there = np.diag(counted), of > 0
    return float(right.sum() / of.sum()), float((right[there] / of[there]).mean())


def _agreement(study: Study, ctx: RungContext, chosen: RungName, images: ImageSet) -> float:
    """Return how often ``model/model.onnx``, given the original image, names the class that the model in memory names."""
    expected = study.finals[chosen].predict(images).probs.numpy().argmax(1)
    return float((expected == _through(study, load_bundle(study.run.model), images).argmax(1)).mean())
