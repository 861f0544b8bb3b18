"""``fallow train``: the whole job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.config import TrainConfig, merge
from fallow.record import RunDir
from fallow.verbs.result import Result, load
from fallow.verbs.runs import Call, Show, asked_for, own_backbone, with_extra

if TYPE_CHECKING:
    from torch import nn

    from fallow.models import Backbone


def train(
    data: Any,
    *,
    unlabeled: Any = None,
    val: Any = None,
    test: Any = None,
    extra: Any = None,
    model: nn.Module | Backbone | None = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    resume: bool = False,
    show: Show = "auto",
    from_process_start: bool = False,
    **options: Any,
) -> Result:
    """Train the best model that a few labeled and many unlabeled images allow, and prove it.

    Tries one rung after the other, as far as the budget reaches: a linear probe on the labels alone, labels spread over
    the unlabeled images, then networks trained on the labels and on all images; measures each on the same held-out
    labels, keeps what wins, and says so when labels alone were better. Leaves a directory with the model (ONNX and
    safetensors), a report and every figure.

    Args:
        data: Folder, CSV, ``(images, labels)`` arrays, or a torch ``Dataset``.
        unlabeled: More images without labels, for arrays and data sets.
        val: Validation images with labels, for arrays and data sets.
        test: Test images with labels, for arrays and data sets.
        extra: More labeled images of the same classes but of another origin (rendered ones, another camera, a public set): a
            path, arrays or a ``Dataset``, as ``data``. They are learned from as far as they help on held-out labels of
            ``data``, and never tested on. ``extra={"data": path, "weight": 0.3}`` pins what they count.
        model: Your own network as the backbone: a module whose output for a float batch (n, 3, s, s) is the feature.
            It is fed ImageNet-normalized images of ``embed={"size": s}`` (160); `fallow.models.from_module` makes a
            backbone with another normalization or a feature hook.
        config: YAML file with any of the options.
        set: Dotted keys to pin, over config and options.
        resume: Go on with the run in ``out``.
        show: What is told on stderr while it runs. ``auto``: a picture on a terminal, elsewhere a plain line for each
            thing that is finished; ``lines``: those lines everywhere; ``nothing``.
        from_process_start: Let the budget count from the start of the process, as the command line does.
        **options: Fields of `fallow.config.TrainConfig`: ``budget``, ``out``, ``rungs``, ``method``, ``seed``,
            ``offline``, ``embed={"views": "flip"}`` and so on. On the command line the fields of ``embed`` are options
            of their own.

    Returns:
        The finished run.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    others = {"unlabeled": unlabeled, "val": val, "test": test}
    if isinstance(extra, str | Path | Mapping):
        options, extra = {**options, "extra": extra if isinstance(extra, Mapping) else {"data": extra}}, None
    objects = {name: [one] for name, one in (("model", model), ("extra", extra)) if one is not None}
    call = Call("train", TrainConfig, data, others, resume, show, from_process_start, _left, objects)
    given = asked_for(TrainConfig, config, options, set, over=_over)
    run, request = call.open(given)
    if resume and run.result.is_file():
        run.release()
        return load(run.path)
    with call.work(run, request) as work:
        from fallow.study import Study

        beside = work.config.extra.data if extra is None else extra
        source = work.source if beside is None else with_extra(work.source, beside)
        own = own_backbone(model, work.config.embed.size, 'embed={"backbone": "resnet18"}')
        study = Study(source, work.config, run, work.clock, own=own, screen=work.screen, named=work.named)
        return Result(run, study.climb())


def _left(run: RunDir, where: str) -> str:
    """Say what a run that was stopped has left."""
    best = run.kept_rung()
    if best:
        return f"{where}/model holds the best finished rung ({best}) and can be used"
    return f"no rung was finished yet, and what was computed is kept in {where}"


def _over(written: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Lay what is asked for over a config file; a value that is asked for now is no longer one that was searched."""
    given = merge(written, asked)
    searched = (given.get("replay") or {}).get("searched") or {}
    for key in list(searched):
        section, _, name = key.partition(".")
        if name in (asked.get(section) or {}):
            given = merge(given, {"replay": {"searched": None}})
            given["replay"]["searched"] = {k: v for k, v in searched.items() if k != key}
            searched = given["replay"]["searched"]
    return given
