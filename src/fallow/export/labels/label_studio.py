"""Tasks for Label Studio: each unlabeled image with what the model says, the most doubtful first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from fallow.export.labels.base import Files, LabelSet
from fallow.record import write_json
from fallow.record.labels import VERDICTS
from fallow.record.rundir import write_bytes
from fallow.types import Json

_SERVED = "/data/local-files/?d="


@dataclass(frozen=True)
class Asked:
    """An image that a person is asked about.

    Attributes:
        address: Absolute path of the file, or a name where it is no file.
        said: What is shown beside the image.
        guess: The class that is offered; None offers none.
        score: How sure the guess is, 0 to 1.
    """

    address: str
    said: Mapping[str, Json]
    guess: str | None
    score: float


def write_label_studio(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write tasks with predictions and the labeling interface, see `write_tasks`."""
    pool = labels.pool
    # A person's time goes to the doubtful first, then to the foreign; among these to the least sure.
    turn = np.array([2, 0, 1])[pool.verdict]
    order = np.lexsort((pool.probability, turn))
    return write_tasks(out, [_asked(labels, int(row)) for row in order], pool.classes)


def write_tasks(out: Path, asked: Sequence[Asked], classes: Sequence[str]) -> Path:
    """Write ``label-studio.json`` (tasks, with predictions where there are any) and ``label-studio.xml`` (the interface).

    Images are named the way Label Studio serves local files: start it with ``LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true``
    and ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/``.

    Args:
        out: The folder to write into.
        asked: The images, in the order in which they should be labeled.
        classes: What can be chosen; without any the name of a class is typed.
    """
    write_json(out / "label-studio.json", [_task(one) for one in asked])
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    answer = (
        f'  <Choices name="label" toName="image" choice="single">\n{choices}\n  </Choices>\n'
        if classes
        else '  <TextArea name="label" toName="image" placeholder="name of the class" maxSubmissions="1"/>\n'
    )
    page = f'<View>\n  <Image name="image" value="$image"/>\n{answer}</View>\n'
    write_bytes(out / "label-studio.xml", page.encode(errors="backslashreplace"))
    return out / "label-studio.json"


def _asked(labels: LabelSet, row: int) -> Asked:
    pool = labels.pool
    said: dict[str, Json] = {
        "path": pool.ids[row],
        "verdict": VERDICTS[pool.verdict[row]],
        "ood_score": round(float(pool.ood_score[row]), 4),
    }
    return Asked(labels.address(pool.ids[row]), said, pool.label(row), float(pool.probability[row]))


def _task(one: Asked) -> dict[str, Json]:
    image = _SERVED + quote(one.address.lstrip("/"), errors="backslashreplace")
    task: dict[str, Json] = {"data": {"image": image, **one.said}}
    if one.guess is not None:
        result: dict[str, Json] = {
            "from_name": "label",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [one.guess]},
        }
        task["predictions"] = [{"model_version": "fallow", "score": round(one.score, 4), "result": [result]}]
    return task
