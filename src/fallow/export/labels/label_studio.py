"""Tasks for Label Studio: each unlabeled image with what the model says, the most doubtful first."""

from __future__ import annotations

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


def write_label_studio(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write ``label-studio.json`` (tasks with predictions) and ``label-studio.xml`` (the labeling interface).

    Images are named the way Label Studio serves local files: start it with ``LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true``
    and ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/``.
    """
    pool = labels.pool
    # A person's time goes to the doubtful first, then to the foreign; among these to the least sure.
    turn = np.array([2, 0, 1])[pool.verdict]
    order = np.lexsort((pool.probability, turn))
    write_json(out / "label-studio.json", [_task(labels, int(row)) for row in order])
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in pool.classes)
    page = (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="label" toName="image" choice="single">\n{choices}\n  </Choices>\n</View>\n'
    )
    write_bytes(out / "label-studio.xml", page.encode(errors="backslashreplace"))
    return out / "label-studio.json"


def _task(labels: LabelSet, row: int) -> dict[str, Json]:
    pool = labels.pool
    address, score = labels.address(pool.ids[row]), round(float(pool.probability[row]), 4)
    result: dict[str, Json] = {
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [pool.label(row)]},
    }
    return {
        "data": {
            "image": _SERVED + quote(address.lstrip("/"), errors="backslashreplace"),
            "path": pool.ids[row],
            "verdict": VERDICTS[pool.verdict[row]],
            "ood_score": round(float(pool.ood_score[row]), 4),
        },
        "predictions": [{"model_version": "fallow", "score": score, "result": [result]}],
    }
