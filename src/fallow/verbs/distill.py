"""``fallow distill``: a smaller, faster model that keeps what a good one knows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.config import DistillConfig, build
from fallow.errors import ConfigError
from fallow.record import RunDir, read_json
from fallow.types import JsonObject
from fallow.verbs.models import check_there, names_and_objects
from fallow.verbs.runs import Call, Show, asked_for

if TYPE_CHECKING:
    from fallow.export import Deployed

_NO_TEACHER = "a teacher is needed: give --teacher MODEL, a run that fallow train wrote or an ONNX file; from Python, teacher=network"


class Distilled:
    """A finished distillation.

    Attributes:
        run: The run directory.
        figures: The content of ``distill.json``.
    """

    def __init__(self, run: RunDir, figures: JsonObject) -> None:
        self.run, self.figures = run, figures

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.run.path

    @cached_property
    def model(self) -> Deployed:
        """The student, through ``model/model.onnx``."""
        from fallow.export import model_at

        return model_at(self.path)

    def to_json(self) -> JsonObject:
        """Return the content of ``distill.json`` and where the run is."""
        return {**self.figures, "run": str(self.path)}

    def screen(self) -> str:
        """Return the last screen for a terminal."""
        from fallow.report.distilled import distilled_screen

        return distilled_screen(self.figures, self.run.model)

    def __repr__(self) -> str:
        return f"Distilled({str(self.path)!r})"


def distill(
    data: Any,
    *,
    teacher: Any = None,
    unlabeled: Any = None,
    val: Any = None,
    test: Any = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    resume: bool = False,
    show: Show = "auto",
    from_process_start: bool = False,
    **options: Any,
) -> Distilled:
    """Teach a small, fast network what a trained model knows, on labeled and unlabeled images.

    The teacher is a run of fallow, an ONNX file, or a network of your own; several are averaged, so that an ensemble becomes one network again. The student is
    the one asked for, or the largest that keeps a limit on time or size, timed on this machine. What it kept is measured from
    the files that leave: accuracy on the test split, or agreement on images set aside; milliseconds an image; bytes; the
    same for a copy with 8-bit weights.

    Args:
        data: Images of the teacher's classes, labeled (one of each at least) and not: folder, CSV, ``(images, labels)`` arrays, or a torch ``Dataset``.
        teacher: Who teaches: a run directory, its ``model/`` folder, an ONNX file, a torch module or function that takes float images
            (n, 3, s, s), ImageNet-normalized, and gives logits or probabilities; or several of them, which are averaged.
        unlabeled: More images without labels, for arrays and data sets.
        val: Validation images with labels, for arrays and data sets.
        test: Test images with labels, for arrays and data sets.
        config: YAML file with any of the options.
        set: Dotted keys to pin, over config and options.
        resume: Go on with the run in ``out``.
        show: What is told on stderr while it runs, as for `fallow.train`.
        from_process_start: Let the budget count from the start of the process, as the command line does.
        **options: Fields of `fallow.config.DistillConfig`: ``budget``, ``out``, ``latency_ms``,
            ``network={"student": "tf_efficientnet_lite0", "size": 128}`` and so on. On the command line the fields of
            ``network`` are options of their own.

    Returns:
        The finished distillation.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    others = {"unlabeled": unlabeled, "val": val, "test": test}
    names, objects = names_and_objects(teacher)
    own = {"teacher": objects}
    call = Call("distill", DistillConfig, data, others, resume, show, from_process_start, _left, own)
    given = asked_for(
        DistillConfig, config, {**options, **({"teacher": ",".join(names)} if names else {})}, set
    )
    settings = build(DistillConfig, given, "the options")
    if not (settings.teachers or objects or resume):
        raise ConfigError(_NO_TEACHER)
    check_there(settings.teachers)
    run, request = call.open(given)
    done = run.path / "distill.json"
    if resume and done.is_file():
        run.release()
        return Distilled(run, read_json(done))
    with call.work(run, request) as work:
        from fallow.study.distilling import Distilling

        teachers = [*work.config.teachers, *objects]
        job = Distilling(
            work.source, teachers, work.config, run, work.clock, screen=work.screen, named=work.named
        )
        return Distilled(run, job.go())


def _left(run: RunDir, where: str) -> str:
    """Say what a distillation that was stopped has left."""
    if (run.model / "model.json").is_file():
        return f"{where}/model holds the student and can be used; it is not measured yet"
    return f"what the teacher said and what the student learned is kept in {where}"
