"""What a rung leaves on disk while it climbs: every fit is kept as soon as it is done, so that nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fallow.record import read_json, write_json
from fallow.record.rundir import write_bytes


class Stage:
    """The directory ``stages/<n>-<rung>/`` of one rung.

    ``fold-<key>.safetensors`` holds the held-out positions and probabilities of one fold, ``final.safetensors`` and
    ``final.json`` the refitted candidate, ``metrics.jsonl`` one line per fit. All are written atomically; a file that
    cannot be read counts as not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def fold(self, key: str) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Return held-out positions and probabilities of a finished fold, or None."""
        tensors = self._load(self.path / f"fold-{key}.safetensors")
        return None if tensors is None else (tensors["held_out"], tensors["probs"])

    def keep_fold(
        self, key: str, held_out: NDArray[np.int64], probs: NDArray[np.float32], line: dict[str, Any]
    ) -> None:
        """Keep a finished fold."""
        content = save({"held_out": held_out, "probs": np.ascontiguousarray(probs, np.float32)})
        write_bytes(self.path / f"fold-{key}.safetensors", content)
        self._log({"fold": key, **line})

    def final(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return the refitted candidate's arrays and plain values, or None."""
        meta = self.path / "final.json"
        tensors = self._load(self.path / "final.safetensors")
        return None if tensors is None or not meta.is_file() else (tensors, read_json(meta))

    def keep_final(
        self, tensors: dict[str, NDArray[Any]], meta: dict[str, Any], line: dict[str, Any]
    ) -> None:
        """Keep the refitted candidate; the JSON is written last and says that the arrays are whole."""
        write_bytes(
            self.path / "final.safetensors", save({k: np.ascontiguousarray(v) for k, v in tensors.items()})
        )
        write_json(self.path / "final.json", meta)
        self._log({"fold": None, **line})

    def seconds(self) -> float:
        """Return the time all logged fits took, of this and of interrupted runs."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return 0.0
        total = 0.0
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                total += float(json.loads(text)["seconds"])
            except (ValueError, KeyError):
                continue  # a kill can leave half a line; the figures themselves are in the fold files
        return total

    def _log(self, line: dict[str, Any]) -> None:
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @staticmethod
    def _load(path: Path) -> dict[str, NDArray[Any]] | None:
        if not path.is_file():
            return None
        try:
            tensors: dict[str, NDArray[Any]] = load_file(path)
        except (SafetensorError, OSError):
            return None
        return tensors
