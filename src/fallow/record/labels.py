"""What a model says of a pool: one label an image, how sure it is, and whether it may be trained on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fallow.errors import RunError
from fallow.record.results import Interval
from fallow.record.rundir import atomic_path
from fallow.types import JsonObject

Verdict = Literal["accept", "doubtful", "foreign"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""``accept``: may be trained on. ``doubtful``: a person should look. ``foreign``: seems to be of no class at all."""
COLUMNS = ("path", "label", "probability", "weight", "verdict", "agreement", "ood_score")


LEVEL = 0.95
"""Of all intervals and bounds that are told."""


@dataclass(frozen=True)
class ClassLabels:
    """The labels of one class.

    Attributes:
        accepted: Images of the pool that were accepted as this class.
        named: Images of the pool that are taken for it, accepted or not.
        labels: Held-out labels of it that its figures rest on.
        precision: Share of its accepted labels that is right; None where it cannot be told.
    """

    accepted: int
    named: int
    labels: int
    precision: Interval | None = None


@dataclass(frozen=True)
class RoundLabels:
    """One round of labeling, where more than one was asked for.

    Attributes:
        number: 1 is made of the labels given, each further one of what the one before accepted, too.
        accepted: Images that it accepts.
        precision: Share of these labels that is right; None where it cannot be told.
        held_out: Share of all held-out labels that it names rightly; None where nothing could be held out.
        kept: Whether it replaced the round before.
        why: Why it was kept or dropped, in words.
    """

    number: int
    accepted: int
    precision: Interval | None
    held_out: Interval | None
    kept: bool
    why: str


@dataclass(frozen=True)
class LabelSummary:
    """The content of ``label.json``: what was asked, and how good the labels are. All shares are fractions.

    Attributes:
        asked: ``precision`` and ``certify``, or ``coverage``.
        precision: Share of the accepted labels that is right, with its 95 % interval; None where it cannot be told.
        coverage: Share of the unlabeled images that was accepted.
        accepted: How many that are.
        doubtful: Unlabeled images that were not accepted.
        foreign: Those that seem to be of no class.
        labels: Held-out labels behind the figures.
        certified: Lower 95 % bound that was shown; None where none was asked for or nothing could be certified.
        threshold: Least probability that was accepted.
        sentence: What came out, for a person.
        why: Why nothing, or less than was asked for, was accepted; empty otherwise.
        per_class: By name.
        models: Who named the images.
        notes: What a person should know, a sentence each.
        seed: Seed of everything random.
        seconds: From the start to the last file.
        rounds: What each round brought; empty where one was asked for.
    """

    asked: JsonObject
    precision: Interval | None
    coverage: float
    accepted: int
    doubtful: int
    foreign: int
    labels: int
    sentence: str
    per_class: dict[str, ClassLabels]
    models: tuple[str, ...]
    certified: float | None = None
    threshold: float = 1.0
    why: str = ""
    notes: tuple[str, ...] = ()
    seed: int = 0
    seconds: float = 0.0
    rounds: tuple[RoundLabels, ...] = ()

    @property
    def pool(self) -> int:
        """How many unlabeled images there were."""
        return self.accepted + self.doubtful + self.foreign

    def to_json(self) -> JsonObject:
        """Return the summary as a JSON object."""
        made: dict[str, Any] = asdict(self)
        made["precision"] = _interval_json(self.precision)
        made["per_class"] = {
            name: {**asdict(one), "precision": _interval_json(one.precision)}
            for name, one in self.per_class.items()
        }
        made["rounds"] = [
            {
                **asdict(one),
                "precision": _interval_json(one.precision),
                "held_out": _interval_json(one.held_out),
            }
            for one in self.rounds
        ]
        if not self.rounds:
            del made["rounds"]
        return made

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LabelSummary:
        """Rebuild a summary from `to_json`."""
        rows = {
            name: ClassLabels(**{**one, "precision": _interval(one["precision"])})
            for name, one in data["per_class"].items()
        }
        rounds = tuple(
            RoundLabels(**{**one, **{name: _interval(one[name]) for name in ("precision", "held_out")}})
            for one in data.get("rounds", ())
        )
        lists = {name: tuple(data[name]) for name in ("models", "notes")}
        return cls(
            **{
                **data,
                **lists,
                "precision": _interval(data["precision"]),
                "per_class": rows,
                "rounds": rounds,
            }
        )


def _interval_json(found: Interval | None) -> dict[str, Any] | None:
    return (
        None
        if found is None
        else {"value": found.value, "low": found.low, "high": found.high, "level": LEVEL, "n": found.n}
    )


def _interval(found: dict[str, Any] | None) -> Interval | None:
    return None if found is None else Interval(found["value"], found["low"], found["high"], found["n"])


@dataclass(frozen=True, eq=False)
class PoolLabels:
    """Labels of a pool, in the order of its images.

    Attributes:
        classes: Class names in the order of the columns of ``probs``.
        ids: Names of the images, relative to the data.
        probs: float32 (n, classes), what the model says of each image; the label is the likeliest class.
        probability: float64 (n,), calibrated probability that the label is right.
        agreement: float64 (n,), share of views, neighbors and models that name the same class; NaN where nothing was asked.
        ood_score: float64 (n,), 0 (as near to the labels as labels are to each other) to 1 (farther than any).
        verdict: int8 (n,), positions in `VERDICTS`.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    probs: NDArray[np.float32]
    probability: NDArray[np.float64]
    agreement: NDArray[np.float64]
    ood_score: NDArray[np.float64]
    verdict: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def guess(self) -> NDArray[np.int64]:
        """Position of the label in ``classes``, (n,)."""
        return self.probs.argmax(1)

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """How much a label should count in training, (n,): its probability, and 0 where it was not accepted."""
        return np.where(self.verdict == 0, self.probability, 0.0)

    def where(self, verdict: Verdict) -> NDArray[np.int64]:
        """Return the rows of one verdict."""
        return np.flatnonzero(self.verdict == VERDICTS.index(verdict))

    def label(self, row: int) -> str:
        """Return the label of one image."""
        return self.classes[int(self.guess[row])]

    def table(self, soft: bool = False) -> pa.Table:
        """Return the columns of ``labels.csv`` (`COLUMNS`) as an arrow table.

        Args:
            soft: Add ``probabilities``, those of all classes.
        """
        values: list[Any] = [
            pa.array(self.ids, pa.string()),
            pa.array(np.asarray(self.classes, object)[self.guess], pa.string()),
            *(pa.array(np.round(v, 6)) for v in (self.probability, self.weight)),
            pa.array(np.asarray(VERDICTS, object)[self.verdict], pa.string()),
            *(pa.array(np.round(v, 6), from_pandas=True) for v in (self.agreement, self.ood_score)),
        ]
        made = pa.table(dict(zip(COLUMNS, values, strict=True)))
        if soft:
            flat = pa.array(np.ascontiguousarray(self.probs, np.float32).reshape(-1))
            made = made.append_column(
                "probabilities", pa.FixedSizeListArray.from_arrays(flat, len(self.classes))
            )
        return made

    def write(self, path: Path) -> None:
        """Write everything as one Parquet file, the class names in its metadata."""
        table = self.table(soft=True).replace_schema_metadata({"classes": json.dumps(self.classes)})
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary)

    @classmethod
    def read(cls, path: Path) -> PoolLabels:
        """Read what `write` wrote.

        Raises:
            RunError: The file is missing or was not written by `write`.
        """
        try:
            table = pq.read_table(path)
            classes = tuple(json.loads(table.schema.metadata[b"classes"]))
            flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            verdicts = {name: position for position, name in enumerate(VERDICTS)}
            probability, agreement, ood_score = (
                np.asarray(table[name].to_numpy(), np.float64)
                for name in ("probability", "agreement", "ood_score")
            )
            return cls(
                classes,
                tuple(table["path"].to_pylist()),
                np.asarray(flat, np.float32).reshape(-1, len(classes)),
                probability,
                agreement,
                ood_score,
                np.array([verdicts[word] for word in table["verdict"].to_pylist()], np.int8),
            )
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"'{path}' cannot be read as labels ({error}): give the folder that `fallow label` wrote"
            ) from error
