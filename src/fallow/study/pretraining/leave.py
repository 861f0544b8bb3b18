"""The end: which of the two networks is in ``model/``, what was found, and everything that a replay needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fallow._version import __version__
from fallow.config import dump_config, merge, nest
from fallow.export import save_backbone
from fallow.models import Backbone
from fallow.record import write_json
from fallow.record.pretrained import Judged, PretrainRecord
from fallow.record.rundir import write_bytes
from fallow.report import write_pretrain_report
from fallow.report.words import percent
from fallow.study.clock import EXIT_SECONDS
from fallow.study.pretraining.judge import Judge
from fallow.study.pretraining.plan import PretrainPlan
from fallow.study.pretraining.verdict import finding_of, verdict
from fallow.types import JsonObject

if TYPE_CHECKING:
    from fallow.study.pretraining.run import Pretraining

_CUT = "pretrain"


def leave(
    study: Pretraining,
    plan: PretrainPlan,
    judge: Judge,
    start: Backbone,
    trained: Backbone,
    before: Judged,
    after: Judged,
    steps: int,
    seconds: float,
    findings: tuple[str, ...],
) -> PretrainRecord:
    """Write backbone, figures and report; what was found is written last and says that all is there.

    Where the evidence says that the trained network is worse, ``model/`` holds the one that it started from, and ``trained/``
    the trained one: whoever takes ``model/`` has what is better.
    """
    difference = judge.difference()
    finding = finding_of(difference)
    began = "the pretrained network" if not plan.network.scratch else "the untrained network"
    said = verdict(difference, began, len(study.data.pool_ids), judge.few, study.data.labels)
    settings = plan.settings
    if steps < settings.steps:
        slow = study.stage.cut(_CUT) is not None
        why = "the machine was slower than measured" if slow else "it showed no sign of learning"
        study.tell(f"Learning was ended at step {steps:,} of {settings.steps:,}: {why}.")
    worse = finding == "worse"
    study.screen.stage("export")
    graphs = study.bank.cache / "graphs"
    moved, drift = judge.moved()
    card = _card(study, plan, said, before, after, steps, of_start=False)
    place = study.run.path / "trained" if worse else study.run.model
    for note in save_backbone(place, trained, card=card, extra=_extra(study, plan), cache=graphs):
        study.tell(note)
    if worse:
        card = _card(study, plan, said, before, after, steps, of_start=True)
        save_backbone(
            study.run.model,
            _sized(start, plan.network.size),
            card=card,
            extra=_extra(study, plan),
            cache=graphs,
        )
    record = PretrainRecord(
        before=before,
        after=after,
        difference=difference,
        finding=finding,
        verdict=said,
        leaves="start" if worse else "trained",
        moved=moved,
        drift=drift,
        method=plan.method,
        backbone=start.architecture,
        init="scratch" if plan.network.scratch else "pretrained",
        trainable=plan.network.trainable,
        size=plan.network.size,
        images=len(study.data.pool_ids),
        labels=study.data.labels,
        judged=len(judge.ids),
        test=len(study.data.test_ids),
        classes=len(study.data.classes),
        steps=steps,
        planned=settings.steps,
        batch=settings.unlabeled_batch,
        training_seconds=round(seconds, 2),
        images_per_second=round(steps * settings.unlabeled_batch / max(seconds, 1e-9), 2),
        seconds=round(study.clock.elapsed + EXIT_SECONDS, 2),
        seed=study.config.seed,
        findings=findings,
        notes=tuple(study.notes),
        skipped=len(study.data.audit.skipped),
    )
    write_bytes(study.run.config, _config(study, plan).encode())
    write_json(study.run.decisions, study.decisions.to_json())
    study.screen.stage("report")
    write_pretrain_report(
        study.run.report, record, list(study.decisions), study.named or study.source.describe()
    )
    write_json(study.run.pretrained, {**record.to_json(), "decisions": study.decisions.to_json()})
    return record


def _sized(backbone: Backbone, size: int) -> Backbone:
    """Return the backbone as it saw the images of this run."""
    from dataclasses import replace

    return replace(backbone, module=backbone.at_size(size), default_size=size)


def _extra(study: Pretraining, plan: PretrainPlan) -> JsonObject:
    scale = study.data.audit.scale
    return {"method": plan.method, "pixel_scale": None if scale is None else [scale.low, scale.high]}


def _config(study: Pretraining, plan: PretrainPlan) -> str:
    """Return ``config.yaml``: no "auto" is left that a decision settled."""
    dumped = study.config.model_dump(mode="json")
    network, settings = plan.network, plan.settings
    settled = {
        "method": plan.method,
        **({"teacher": plan.teacher.name} if plan.teacher is not None and study.own is None else {}),
        "network.backbone": "auto" if study.own is not None else network.backbone,
        "network.size": network.size,
        "network.trainable": network.trainable,
        **({} if study.own is not None else {"network.init": "scratch" if network.scratch else "pretrained"}),
        **{f"options.{name}": value for name, value in plan.options.items()},
        "views.moves": {(): "none", ("hflip",): "flip"}.get(plan.flips, "turns"),
        "optimization.steps": settings.steps,
        "optimization.batch_size": settings.unlabeled_batch,
        **{
            f"optimization.{name}": getattr(settings, name)
            for name in (
                "optimizer",
                "lr",
                "weight_decay",
                "warmup",
                "ema_decay",
                "clip",
                "accumulate",
                "precision",
            )
        },
        "replay.data": study.data.fingerprint(),
        "replay.cut": study.stage.cut(_CUT),
        "replay.judging": plan.extent.to_json(),
    }
    return dump_config(merge(dumped, nest(settled)))


def _card(
    study: Pretraining,
    plan: PretrainPlan,
    said: str,
    before: Judged,
    after: Judged,
    steps: int,
    *,
    of_start: bool,
) -> str:
    name = plan.network.backbone
    what = "as it was before" if of_start else f"after learning from {len(study.data.pool_ids):,} images"
    lines = [
        f"# {name}, {what}",
        "",
        f"Made by fallow {__version__}: `{plan.method}`, {steps:,} steps of {plan.settings.unlabeled_batch} images at "
        f"{plan.network.size} pixels, {f'with the labels of {study.data.labels:,}' if study.data.labels else 'no labels'}.",
        "",
        f"**{said}**",
    ]
    if (
        before.probe is not None
        and after.probe is not None
        and before.knn is not None
        and after.knn is not None
    ):
        lines += [
            "",
            f"- Linear probe, {after.probe.n:,} held-out labels: {percent(before.probe.value)} before, "
            f"{percent(after.probe.value)} after.",
            f"- Nearest neighbors: {percent(before.knn)} before, {percent(after.knn)} after.",
        ]
    return "\n".join(lines) + "\n"
