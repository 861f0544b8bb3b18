"""The out-of-fold table on the disk holds what the folds said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fallow.study.evidence import OutOfFold

IDS, Y = ("a", "b", "c", "d"), np.array([0, 1, 0, 1])


def test_every_row_comes_back_as_it_was_said(tmp_path: Path) -> None:
    found = OutOfFold(IDS, Y, 2)
    probs = np.array([[0.1, 0.9], [1 / 3, 2 / 3]], np.float32)
    found.add("probe", "0-0", np.array([1, 2]), probs)
    found.add("probe", "0-1", np.array([0, 3]), probs[::-1])
    found.add("propagate", "0-0", np.array([1, 2]), probs)
    found.calibrate("probe", 1.5)
    found.write(tmp_path / "table.parquet")
    table = pq.read_table(tmp_path / "table.parquet")
    rows = table.to_pylist()
    assert [(r["id"], r["rung"], r["fold"], r["label"], r["temperature"]) for r in rows] == [
        ("b", "probe", "0-0", 1, 1.5),
        ("c", "probe", "0-0", 0, 1.5),
        ("a", "probe", "0-1", 0, 1.5),
        ("d", "probe", "0-1", 1, 1.5),
        ("b", "propagate", "0-0", 1, 1.0),
        ("c", "propagate", "0-0", 0, 1.0),
    ]
    np.testing.assert_array_equal(
        np.array([r["probs"] for r in rows], np.float32), np.concatenate([probs, probs[::-1], probs])
    )
    assert {r["unit"] for r in rows} == {0}
    assert table.schema.field("probs").type.value_type == pa.float32()  # as the folds gave them


def test_a_study_that_held_nothing_out_writes_a_table_without_rows(tmp_path: Path) -> None:
    OutOfFold(IDS, Y, 2).write(tmp_path / "table.parquet")
    assert pq.read_table(tmp_path / "table.parquet").to_pylist() == []
