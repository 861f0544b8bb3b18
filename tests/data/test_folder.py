from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from fallow.data import FolderSource, ImageTable, audit, open_source
from fallow.errors import DataError
from tests.data.conftest import put


def table(root: Path) -> ImageTable:
    return ImageTable.from_batches(open_source(root).rows())


def test_split_folders(photos: Path) -> None:
    found = table(photos)
    assert found.labels("train")["train/cat/0.png"] == "cat"
    assert Counter(found.images["split"].to_pylist()) == {"train": 6, "test": 2, "unlabeled": 4}
    assert set(found.ids()) == {p.relative_to(photos).as_posix() for p in photos.rglob("*.*")}
    assert "unlabeled" in open_source(photos).describe()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Val", "VALIDATION"])
def test_names_of_validation(tmp_path: Path, name: str) -> None:
    for split in ("train", name):
        put(tmp_path / split / "a" / "1.png")
    assert table(tmp_path).labels("val") == {f"{name}/a/1.png": "a"}


def test_class_folders_alone_and_beside_unlabeled(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "dog" / "deep" / "er" / "2.png")
    put(tmp_path / "unlabeled" / "some" / "dog.png")
    found = table(tmp_path)
    assert found.labels() == {"cat/1.png": "cat", "dog/deep/er/2.png": "dog"}
    assert found.ids("unlabeled") == ["unlabeled/some/dog.png"]


def test_flat_folder_is_unlabeled(tmp_path: Path) -> None:
    put(tmp_path / "cat1.png")
    put(tmp_path / "dog1.png")
    assert table(tmp_path).ids("unlabeled") == ["cat1.png", "dog1.png"]


def test_one_folder_too_many_is_stepped_into(tmp_path: Path) -> None:
    put(tmp_path / "set" / "images" / "a" / "1.png")
    put(tmp_path / "set" / "images" / "b" / "1.png")
    assert table(tmp_path).labels() == {"set/images/a/1.png": "a", "set/images/b/1.png": "b"}


def test_a_class_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train", "tram"):
        put(tmp_path / name / "1.png")
    assert set(table(tmp_path).labels("train").values()) == {"bus", "train", "tram"}


def test_folders_beside_train_are_told_not_read(photos: Path) -> None:
    put(photos / "leftovers" / "x.png")
    source = open_source(photos)
    ids = ImageTable.from_batches(source.rows()).ids()
    assert not any(i.startswith("leftovers") for i in ids)
    assert [(s.id, s.kind) for s in source.set_aside] == [("leftovers/", "not_a_split")]


def test_hidden_and_system_files_are_ignored_silently(photos: Path) -> None:
    before = table(photos).ids()
    for name in (".DS_Store", "Thumbs.db", "cat/.hidden.png", "cat/Thumbs.db"):
        (photos / "train" / name).write_bytes(b"x")
    put(photos / "__MACOSX" / "train" / "cat" / "0.png")
    put(photos / ".git" / "x.png")
    assert table(photos).ids() == before
    assert audit(open_source(photos)).skipped == []


def test_a_link_gives_its_content_never_its_target_s_class(photos: Path, tmp_path: Path) -> None:
    hidden = put(tmp_path / "elsewhere" / "dog" / "secret.png", seed=77)
    (photos / "unlabeled" / "link.png").symlink_to(hidden)
    (photos / "train" / "cat" / "link.png").symlink_to(put(tmp_path / "elsewhere" / "dog" / "b.png", seed=78))
    (photos / "unlabeled" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = audit(open_source(photos))
    assert "unlabeled/link.png" in found.table.ids("unlabeled")
    assert found.table.labels()["train/cat/link.png"] == "cat"
    assert [(s.id, s.kind) for s in found.skipped] == [("unlabeled/gone.png", "missing")]


def test_loops_of_links_end(photos: Path) -> None:
    (photos / "train" / "cat" / "again").symlink_to(photos / "train" / "cat")
    (photos / "unlabeled" / "up").symlink_to(photos)
    found = table(photos)
    assert len(found.labels("train")) == 6
    loop = photos.parent / "loop"
    loop.mkdir()
    (loop / "me").symlink_to(loop)
    assert len(table(loop)) == 0


def test_odd_file_names(tmp_path: Path) -> None:
    names = ["ü ñ.png", "a\nb.png", "<script>.png", "no_ending"]
    for i, name in enumerate(names):
        put(tmp_path / "cat" / name, seed=i, kind="PNG")
    raw = os.fsencode(tmp_path / "cat") + b"/caf\xe9.png"
    with open(raw, "wb") as file:
        file.write((tmp_path / "cat" / "ü ñ.png").read_bytes()[:-1])  # and damaged, so that it is told about
    put(tmp_path / "dog" / "1.png", seed=50)
    found = audit(open_source(tmp_path))
    assert {f"cat/{name}" for name in names} < set(found.table.ids())
    assert [(s.id, s.kind) for s in found.skipped] == [("cat/caf\\xe9.png", "truncated")]


def test_a_pipe_is_not_waited_for(photos: Path) -> None:
    os.mkfifo(photos / "unlabeled" / "pipe.png")
    assert [s.id for s in audit(open_source(photos)).skipped] == ["unlabeled/pipe.png"]


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder or file"):
        open_source(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="no data set that fallow can read"):
        open_source(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="cannot be read as images"):
        open_source(42)
    with pytest.raises(DataError, match="unlabeled="):
        open_source(tmp_path, unlabeled=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    put(locked / "a" / "1.png")
    locked.chmod(0)
    try:
        with pytest.raises(DataError, match="permission"):
            open_source(locked)
    finally:
        locked.chmod(0o755)


def test_unreadable_folder_is_told(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Path) -> os.ScandirIterator[str]:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    source = FolderSource(photos)
    list(source.rows())
    assert ("train/dog/", "unreadable") in [(s.id, s.kind) for s in source.set_aside]
