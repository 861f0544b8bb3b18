from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fallow.data import ImageTable, TableFileSource, audit, open_source
from fallow.errors import DataError
from tests.data.conftest import put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(4):
        put(tmp_path / "images" / f"{i}.png", seed=i)
    return tmp_path


def table(path: Path) -> ImageTable:
    return ImageTable.from_batches(open_source(path).rows())


def split_of(found: ImageTable) -> dict[str, str]:
    return dict(zip(found.ids(), found.images["split"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    "header", ["", "path,label\n", "filename,class\n", "Image,Category\n", "image_path,species\n"]
)
def test_with_and_without_header(root: Path, header: str) -> None:
    file = root / "list.csv"
    file.write_text(header + "images/0.png,cat\nimages/1.png,dog\nimages/2.png,\nimages/3.png\n")
    found = table(file)
    assert found.labels() == {"images/0.png": "cat", "images/1.png": "dog"}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.tsv", "path\tlabel\nimages/0.png\tcat\n"), ("a.csv", "path;label\nimages/0.png;cat\n")],
)
def test_other_separators(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)
    assert table(root / name).labels() == {"images/0.png": "cat"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_spreadsheets(root: Path, encoding: str) -> None:
    (root / "a.csv").write_bytes("path,label\r\nimages/0.png,Käse\r\n".encode(encoding))
    assert table(root / "a.csv").labels() == {"images/0.png": "Käse"}


def test_split_and_group_columns(root: Path) -> None:
    text = "file,label,split,group\nimages/0.png,a,train,p1\nimages/1.png,a,Valid,p1\nimages/2.png,b,test,\n"
    (root / "a.csv").write_text(text + "images/3.png,secret,unlabeled,\n")
    found = table(root / "a.csv")
    assert list(split_of(found).values()) == ["train", "val", "test", "unlabeled"]
    assert found.column("group", ["images/0.png", "images/2.png"]) == ["p1", None]
    assert "images/3.png" not in found.labels()


def test_quotes_absolute_paths_and_labels_that_look_like_nothing(root: Path) -> None:
    put(root / "a, b.png", seed=9)
    (root / "a.csv").write_text(f'"a, b.png",None\n{root}/images/0.png,nan\n./images/1.png, 7 \n')
    assert table(root / "a.csv").labels() == {
        "a, b.png": "None",
        f"{root}/images/0.png": "nan",
        "images/1.png": "7",
    }
    assert len(audit(open_source(root / "a.csv")).table) == 3


def test_parquet(root: Path) -> None:
    columns = {"path": [f"images/{i}.png" for i in range(4)], "label": [1.0, 2.0, None, float("nan")]}
    pq.write_table(pa.table(columns), root / "a.parquet")
    assert table(root / "a.parquet").labels() == {"images/0.png": "1", "images/1.png": "2"}
    pq.write_table(pa.table({"x": [1]}), root / "b.parquet")
    with pytest.raises(DataError, match="no column for the image"):
        table(root / "b.parquet")


def test_one_list_a_split_and_a_label_map(root: Path) -> None:
    (root / "train.csv").write_text("images/0.png,0\nimages/1.png,1\n")
    (root / "test.csv").write_text("images/2.png,1\n")
    (root / "unlabeled.csv").write_text("images/3.png\n")
    (root / "label_map.csv").write_text("0,cat\n1,dog\n")
    source = open_source(root)
    assert isinstance(source, TableFileSource)
    found = ImageTable.from_batches(source.rows())
    assert found.labels() == {"images/0.png": "cat", "images/1.png": "dog", "images/2.png": "dog"}
    assert split_of(found)["images/3.png"] == "unlabeled"
    (root / "train.csv").write_text("images/0.png,0\nimages/1.png,7\n")
    with pytest.raises(DataError, match=r"line 2 of .*train.csv' has the label '7'"):
        table(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"images/0.png,cat\nimages/1.png,dog,extra\n", "line 2 of .* has 3 columns where 2 are expected"),
        (b"images/0.png,cat\n,dog\n", "line 2 of .* has no path"),
        (b"images/0.png,cat\nimages/1.png,d\xffg\n", "line 2 of .* is not UTF-8"),
        (b"images/0.png,cat\nimages/1.png,\x00\n", "line 2 of .* zero bytes"),
        (b'images/0.png,cat\n"images/1.png,dog\n', "line 2 of .* cannot be read"),
        (b"path,label,split\nimages/0.png,cat,tarin\n", "line 2 of .* has the split 'tarin'"),
        (b"path,width,height\nimages/0.png,3,4\n", "does not say which column is the label"),
        (b"gone/0.png,cat\ngone/1.png,dog\n", "none of the 2 files .* exists"),
    ],
)
def test_lines_that_cannot_be_read(root: Path, text: bytes, message: str) -> None:
    (root / "a.csv").write_bytes(text)
    with pytest.raises(DataError, match=message) as error:
        table(root / "a.csv")
    assert "a.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_blank_lines_and_padding_are_fine(root: Path) -> None:
    (root / "a.csv").write_text("\nimages/0.png,cat,,\n\n,,\nimages/1.png,dog\n")
    assert len(table(root / "a.csv").labels()) == 2


def test_a_file_that_is_missing_is_skipped(root: Path) -> None:
    (root / "a.csv").write_text("images/0.png,cat\nimages/9.png,cat\nimages/1.png,dog\n")
    found = audit(open_source(root / "a.csv"))
    assert [(s.id, s.kind, s.split) for s in found.skipped] == [("images/9.png", "missing", "train")]


def test_the_same_file_in_two_lines(root: Path) -> None:
    (root / "a.csv").write_text(
        "path,label,split\nimages/0.png,a,train\nimages/0.png,a,train\nimages/1.png,b,train\nimages/1.png,c,train\n"
        "images/2.png,a,train\nimages/2.png,a,test\nimages/3.png,b,train\nimages/3.png,,unlabeled\n"
    )
    found = audit(open_source(root / "a.csv"))
    assert [(s.id, s.kind) for s in found.skipped] == [("images/0.png", "duplicate_row")]
    assert [c.ids for c in found.conflicts] == [("images/1.png",)]
    assert [(leak.id, leak.split) for leak in found.leaks] == [("images/2.png", "train")]
    assert split_of(found.table) == {"images/0.png": "train", "images/2.png": "test", "images/3.png": "train"}
    assert found.twins == []
