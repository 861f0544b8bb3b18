"""A gallery: images of a folder as vectors in files that anybody reads, with what made them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fallow.data import PixelScale
from fallow.errors import RunError
from fallow.record import read_json, write_json
from fallow.record.rundir import atomic_path
from fallow.study.gallery.calibrate import Calibration
from fallow.types import JsonObject

PARQUET, NPY, META = "embeddings.parquet", "embeddings.npy", "embed.json"
_ROWS = 8192


@dataclass(frozen=True)
class MadeBy:
    """What turned images into vectors: enough to do it again.

    Attributes:
        name: The model as it was asked for; a run by its absolute path.
        weights: File with its weights, likewise; None: its own.
        own: It was handed in from Python, and has to be again.
        parts: Name, hash of the weights, size and views of each network.
        dim: Length of a vector.
    """

    name: str
    weights: str | None
    own: bool
    parts: tuple[tuple[str, str, int, str], ...]
    dim: int


@dataclass(frozen=True)
class Gallery:
    """Images and their vectors.

    Attributes:
        ids: Paths relative to the data, (n).
        splits: ``train``, ``val``, ``test`` or ``unlabeled`` of each.
        labels: Class of each, an empty text where there is none, (n,).
        vectors: (n, dim) float32; a file that is read where it is looked at.
        made_by: The model.
        scale: Of images of more than 8 bits.
        calibration: Which distances tell a match from none.
        data: The data as the user named them.
        skipped: Images that could not be read, and why.
        seed: Of the map and the calibration.
    """

    ids: tuple[str, ...]
    splits: tuple[str, ...]
    labels: NDArray[np.str_]
    vectors: NDArray[np.float32]
    made_by: MadeBy
    scale: PixelScale | None
    calibration: Calibration
    data: str
    skipped: dict[str, str]
    seed: int

    def write(self, folder: Path) -> None:
        """Write all files, the one that makes a gallery of them last."""
        with atomic_path(folder / NPY) as temporary, temporary.open("wb") as file:
            np.save(file, self.vectors)
        with atomic_path(folder / PARQUET) as temporary:
            self._write_table(temporary)
        write_json(folder / META, self.to_json())

    def _write_table(self, path: Path) -> None:
        vector = pa.list_(pa.float32(), self.vectors.shape[1])
        text = pa.string()
        schema = pa.schema([("path", text), ("split", text), ("label", text), ("vector", vector)])
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, len(self.ids), _ROWS):
                part = slice(start, start + _ROWS)
                # File names that are not Unicode have no other way into a table of text.
                paths = [i.encode(errors="surrogateescape").decode(errors="replace") for i in self.ids[part]]
                flat = pa.array(np.ascontiguousarray(self.vectors[part]).reshape(-1))
                columns = [
                    pa.array(paths, text),
                    pa.array(self.splits[part], text),
                    pa.array([name or None for name in self.labels[part].tolist()], text),
                    pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1]),
                ]
                writer.write_table(pa.table(columns, schema=schema))

    def to_json(self) -> JsonObject:
        """Return the content of ``embed.json``."""
        return {
            "data": self.data,
            "images": len(self.ids),
            "labeled": int((self.labels != "").sum()),
            "model": {**asdict(self.made_by), "parts": [list(part) for part in self.made_by.parts]},
            "scale": None if self.scale is None else [self.scale.low, self.scale.high],
            "match": self.calibration.to_json(),
            "skipped": dict(self.skipped),
            "seed": self.seed,
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open a gallery; its vectors stay on disk.

        Raises:
            RunError: The folder holds none, or one that is damaged.
        """
        if not (folder / META).is_file():
            raise RunError(
                f"'{folder}' holds no embedded images (no {META}): make it by  fallow embed DATA --out {folder}"
            )
        try:
            meta = read_json(folder / META)
            table = pq.read_table(folder / PARQUET, columns=["path", "split", "label"])
            vectors = np.load(folder / NPY, mmap_mode="r", allow_pickle=False)
            made = {**meta["model"], "parts": tuple(tuple(part) for part in meta["model"]["parts"])}
            found = cls(
                tuple(table["path"].to_pylist()),
                tuple(table["split"].to_pylist()),
                np.array([name or "" for name in table["label"].to_pylist()], dtype=np.str_),
                vectors,
                MadeBy(**made),
                None if meta["scale"] is None else PixelScale(*meta["scale"]),
                Calibration.from_json(meta["match"]),
                meta["data"],
                meta["skipped"],
                meta["seed"],
            )
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise RunError(f"'{folder}' is damaged ({error}): embed the images again") from error
        if len(found.ids) != len(vectors) or vectors.ndim != 2:
            raise RunError(
                f"'{folder}' is damaged: {PARQUET} and {NPY} differ in their rows; embed the images again"
            )
        return found
