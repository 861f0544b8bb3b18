"""What a rung leaves on disk while it climbs: every fit is kept as soon as it is done, so that nothing is done twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fallow.errors import RunError
from fallow.record import Decision, read_json, write_json
from fallow.record.rundir import append_line, read_lines, write_bytes

Array = NDArray[Any]


@dataclass(frozen=True)
class StagePlan:
    """How much of a rung is done: decided by the clock once, then a fact that resume and replay follow.

    Attributes:
        folds: Folds that the rung is measured on.
        seconds: What the held-out fits may take in all; None where the number of folds is all that counts.
        steps: Steps of each fit of a trained rung; None for others.
        after: Seconds that its answers will take once all rungs are climbed: test images, pool.
        skipped: The rung is left out.
        note: The sentence about it for a person; empty where nothing was cut.
        decision: The same as a decision; None where nothing was cut.
    """

    folds: int
    seconds: float | None = None
    skipped: bool = False
    note: str = ""
    decision: Decision | None = None
    steps: int | None = None
    after: float = 0.0


class Stage:
    """The directory ``stages/<n>-<rung>/`` of one rung.

    ``plan.json`` says how many folds are fitted, ``fold-<key>.safetensors`` holds the held-out positions and
    probabilities of one fold, ``model-<key>.*`` the candidate of a fold that is too dear to be fitted again, ``final.safetensors`` and ``final.json`` the refitted candidate, ``test.safetensors`` what
    it said of the test images, ``metrics.jsonl`` one line per fit. All but the last are written atomically; a file that
    cannot be read, or is not what was asked for, counts as not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def plan(self) -> StagePlan | None:
        """Return what was decided about the number of folds, or None."""
        found = self._json("plan.json")
        if found is None:
            return None
        made = found["decision"]
        return StagePlan(**{**found, "decision": None if made is None else Decision.from_json(made)})

    def keep_plan(self, plan: StagePlan) -> None:
        """Keep what was decided about the number of folds."""
        made = None if plan.decision is None else plan.decision.to_json()
        write_json(self.path / "plan.json", {**vars(plan), "decision": made})

    def decisions(self) -> list[Decision]:
        """Return what was decided while the rung was planned or given up."""
        found = self._json("decisions.json") or {}
        return [Decision.from_json(made) for made in found.get("made", ())]

    def keep_decisions(self, made: Iterable[Decision]) -> None:
        """Keep what was decided, beside what was kept before; to be called before `keep_plan`, which makes it a fact."""
        together = {decision.name: decision for decision in (*self.decisions(), *made)}
        write_json(self.path / "decisions.json", {"made": [d.to_json() for d in together.values()]})

    def fold(self, key: str, held_out: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the probabilities (k, classes) of a finished fold that held out ``held_out``, or None."""
        tensors = self._tensors(f"fold-{key}.safetensors", "held_out", "probs")
        if tensors is None or not np.array_equal(tensors["held_out"], held_out):
            return None
        return tensors["probs"] if len(tensors["probs"]) == len(held_out) else None

    def keep_fold(
        self, key: str, held_out: NDArray[np.int64], probs: NDArray[np.float32], line: dict[str, Any]
    ) -> None:
        """Keep a finished fold."""
        self._keep(f"fold-{key}.safetensors", {"held_out": held_out, "probs": probs})
        self._log({"fold": key, **line})

    def cut(self, key: str) -> int | None:
        """Return the step at which the clock ended a fit, or None."""
        return self.cuts().get(key)

    def cuts(self) -> dict[str, int]:
        """Return the steps at which the clock ended fits, by fold."""
        return dict(self._json("cuts.json") or {})

    def keep_cut(self, key: str, step: int) -> None:
        """Make the end of a fit a fact, before the fit ends there."""
        write_json(self.path / "cuts.json", {**self.cuts(), key: step})

    def candidate(self, key: str) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """Return arrays and plain values of a fold's candidate, or None."""
        meta, tensors = self._json(f"model-{key}.json"), self._tensors(f"model-{key}.safetensors")
        return None if tensors is None or meta is None else (tensors, meta)

    def keep_candidate(self, key: str, tensors: dict[str, Array], meta: dict[str, Any]) -> None:
        """Keep a fold's candidate, for the rungs above; to be called before `keep_fold`, which says that all is there."""
        self._keep(f"model-{key}.safetensors", tensors)
        write_json(self.path / f"model-{key}.json", meta)

    def workdir(self, key: str) -> Path:
        """Return the folder in which a fit works until it is kept."""
        return self.path / f"fit-{key}"

    def clear_workdir(self, key: str) -> None:
        """Keep the figures of a fit that is done, and nothing else of its folder."""
        folder = self.workdir(key)
        for log in sorted(
            folder.rglob("train.jsonl")
        ):  # a fit of several rounds has one in the folder of each
            rounds = "".join(f"-{part}" for part in log.relative_to(folder).parts[:-1])
            log.replace(self.path / f"train-{key}{rounds}.jsonl")
        shutil.rmtree(folder, ignore_errors=True)

    def final(self) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """Return the refitted candidate's arrays and plain values, or None."""
        meta = self._json("final.json")
        tensors = self._tensors("final.safetensors")
        return None if tensors is None or meta is None else (tensors, meta)

    def keep_final(self, tensors: dict[str, Array], meta: dict[str, Any], line: dict[str, Any]) -> None:
        """Keep the refitted candidate; the JSON is written last and says that the arrays are whole."""
        self._keep("final.safetensors", tensors)
        write_json(self.path / "final.json", meta)
        self._log({"fold": None, **line})

    def test(self, images: int) -> NDArray[np.float32] | None:
        """Return the probabilities (images, classes) of the test images, or None."""
        tensors = self._tensors("test.safetensors", "probs")
        return None if tensors is None or len(tensors["probs"]) != images else tensors["probs"]

    def keep_test(self, probs: NDArray[np.float32]) -> None:
        """Keep what the candidate said of the test images."""
        self._keep("test.safetensors", {"probs": probs})

    def lines(self) -> list[dict[str, Any]]:
        """Return what was logged of each fit, of this and of interrupted runs."""
        return read_lines(self.path / "metrics.jsonl")

    def seconds(self) -> float:
        """Return the time all logged fits took."""
        return sum(float(line.get("seconds", 0.0)) for line in self.lines())

    def fold_seconds(self) -> float:
        """Return what a fit on a fold took, the middle one; 0 where there was none."""
        seen = [float(line.get("seconds", 0.0)) for line in self.lines() if line.get("fold") is not None]
        return float(np.median(seen)) if seen else 0.0

    def _log(self, line: dict[str, Any]) -> None:
        append_line(self.path / "metrics.jsonl", line)

    def _keep(self, name: str, tensors: dict[str, Array]) -> None:
        write_bytes(self.path / name, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}))

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            found = read_json(self.path / name)
        except RunError:
            return None
        return found if isinstance(found, dict) else None

    def _tensors(self, name: str, *needed: str) -> dict[str, Array] | None:
        path = self.path / name
        if not path.is_file():
            return None
        try:
            tensors: dict[str, Array] = load_file(path)
        except (SafetensorError, OSError):
            return None
        return tensors if all(k in tensors for k in needed) else None
