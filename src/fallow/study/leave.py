"""After the climb: fix the choice, then read the test split once, and leave everything a person needs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fallow.config import dump_config, merge, nest
from fallow.export import load_bundle, save_bundle
from fallow.record import Interval, RungResult, Scored, StudyResult, Waterfall, WaterfallBar, write_json
from fallow.record.rundir import write_bytes
from fallow.report import write_report
from fallow.study.card import model_card
from fallow.study.choose import corrected_for_choice, gain_interval
from fallow.study.context import RungContext
from fallow.study.reporting import gather_report
from fallow.study.rungs import RUNGS, FrozenCandidate
from fallow.study.verdict import verdict
from fallow.study.worth import learning_curve, worth_labels
from fallow.types import RungName

if TYPE_CHECKING:
    from fallow.study.ladder import Study

_CHECKED = 50
"""Images on which the exported file is compared with the model in memory."""


def keep_model(study: Study, ctx: RungContext, name: RungName) -> None:
    """Make ``model/`` the rung called ``name``: from now on a kill leaves it usable."""
    if (study.run.model / "model.json").is_file() and load_bundle(study.run.model).meta["rung"] == name:
        return
    study.screen.stage("export")
    candidate = study.finals[name]
    assert isinstance(candidate, FrozenCandidate)
    scale = ctx.data.audit.scale
    save_bundle(
        study.run.model,
        candidate.classifier,
        candidate.backbones(),
        classes=list(ctx.data.classes),
        task=ctx.task.name,
        card=model_card(study, ctx, name),
        extra={"rung": name, "pixel_scale": None if scale is None else [scale.low, scale.high]},
        cache=ctx.bank.cache / "graphs",
    )


def leave(study: Study, ctx: RungContext, best: RungName) -> StudyResult:
    """Fix the choice, score the test split, and write model, report and figures."""
    labels_only = _opponent(study)
    where, correct = study.evidence.correct(tuple(study.finals))
    weights = study.weights(ctx, where) if len(where) else None
    gain = None
    corrected = None
    if len(where):
        corrected = corrected_for_choice(correct, best, weights, study.config.seed)
        if best != labels_only:
            gain = gain_interval(correct[best], correct[labels_only], weights, study.config.seed)
    write_json(study.run.path / "choice.json", {"chosen": best, "labels_only": labels_only})
    tested, predicted = _score_test(study, ctx)
    rungs = tuple(_with_test(r, tested) for r in study.results)
    by_name = {r.rung: r for r in rungs}
    opponent = _scored(by_name[labels_only])
    chosen = _scored(by_name[best])
    if corrected is not None and best != labels_only:
        chosen = replace(chosen, held_out=corrected)
    claim = gain is not None and gain.low > 0
    worth, remark = _worth(study, ctx, labels_only, best, correct)
    result = StudyResult(
        task=ctx.task.name,
        seed=study.config.seed,
        seconds=study.clock.elapsed,
        counts=ctx.data.counts,
        labels_only=opponent,
        chosen=chosen,
        rungs=rungs,
        claim=claim,
        verdict=verdict(ctx.data.counts, opponent, chosen, gain, claim, worth),
        worth_labels=worth,
        labels_worth_note=remark,
        waterfall=_waterfall(study, rungs, best),
        export_agreement=_agreement(study, ctx, best),
        test_reads=tuple(tested),
    )
    _write_config(study)
    write_json(study.run.decisions, study.decisions.to_json())
    study.screen.stage("report")
    write_report(study.run.report, gather_report(study, ctx, result, predicted))
    result = replace(result, seconds=study.clock.elapsed)
    write_json(study.run.result, result.to_json())
    return result


def _opponent(study: Study) -> RungName:
    """Return the better of the labels-only rungs by held-out accuracy; the later one where nothing is held out."""
    rows = [r for r in study.results if RUNGS[r.rung].info.labels_only]
    return max(rows, key=lambda r: r.held_out.value if r.held_out else 0.0).rung


def _scored(row: RungResult) -> Scored:
    return Scored(row.rung, row.held_out, row.test, row.balanced_held_out, row.balanced_test)


def _score_test(
    study: Study, ctx: RungContext
) -> tuple[dict[RungName, tuple[float, float]], dict[RungName, Any]]:
    """Score every finished rung on the test split; the choice is on disk before the first test image is read."""
    if not ctx.data.test_ids:
        return {}, {}
    study.screen.stage("test")
    images, truth = ctx.data.images(ctx.data.test_ids), ctx.data.test_classes()
    scores, predicted = {}, {}
    for name, candidate in study.finals.items():
        probs = candidate.predict(images).probs.numpy()
        right = probs.argmax(1) == truth
        recall = [right[truth == c].mean() for c in np.unique(truth)]
        scores[name] = (float(right.mean()), float(np.mean(recall)))
        predicted[name] = probs
        study.run.append_line(
            "test_reads.jsonl",
            {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "rung": name, "images": len(truth)},
        )
    return scores, predicted


def _with_test(row: RungResult, tested: dict[RungName, tuple[float, float]]) -> RungResult:
    if row.rung not in tested:
        return row
    accuracy, balanced = tested[row.rung]
    return replace(row, test=accuracy, balanced_test=balanced)


def _worth(
    study: Study,
    ctx: RungContext,
    labels_only: RungName,
    best: RungName,
    correct: dict[RungName, NDArray[np.float64]],
) -> tuple[int | None, str]:
    if best == labels_only or not correct:
        return (0, "labels alone were chosen") if best == labels_only else (None, "nothing could be held out")
    fit_score = RUNGS["probe"].curve(ctx)  # type: ignore[attr-defined]
    sizes, errors = learning_curve(ctx.data.y, fit_score, study.config.seed)
    wrong = {name: 1 - float(c.mean()) for name, c in correct.items()}
    return worth_labels(len(ctx.data.y), wrong[labels_only], wrong[best], sizes, errors)


def _agreement(study: Study, ctx: RungContext, best: RungName) -> float:
    """Return the share of checked images on which ``model/model.onnx``, given the original file, names the same class."""
    ids = (ctx.data.test_ids or ctx.data.labeled_ids)[:_CHECKED]
    candidate = study.finals[best]
    expected = candidate.predict(ctx.data.images(tuple(ids))).probs.numpy().argmax(1)
    deployed = load_bundle(study.run.model)
    got = np.array([deployed.predict_probs([ctx.data.reader.read(i)])[0].argmax() for i in ids])
    return float((expected == got).mean())


def _waterfall(study: Study, rungs: tuple[RungResult, ...], best: RungName) -> Waterfall:
    bars = []
    for row in rungs:
        if row.held_out is None:
            continue
        h = row.held_out
        bars.append(
            WaterfallBar(
                row.rung,
                Interval(1 - h.value, 1 - h.high, 1 - h.low, h.n),
                row.gain,
                row.seconds,
                row.rung == best,
                study.evidence.folds(row.rung),
            )
        )
    return Waterfall(tuple(bars))


def _write_config(study: Study) -> None:
    """Write the resolved config: no "auto" is left that a decision settled."""
    dumped = study.config.model_dump(mode="json")
    settled = {
        d.name: d.value
        for d in study.decisions
        if "." in d.name
        and d.name.split(".")[0] in dumped
        and d.name.split(".")[1] in (dumped[d.name.split(".")[0]] or {})
    }
    # Zero folds is what follows from the data, not something that can be asked for.
    settled = {k: v for k, v in settled.items() if not (k == "choose.folds" and v == 0)}
    write_bytes(study.run.config, dump_config(merge(dumped, nest(settled))).encode())
