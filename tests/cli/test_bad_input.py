"""Whatever is given, the answer is one sentence that names it and says what to do, or the job is done with the rest."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import QUICK, Fallow, Ran
from tests.photos import photos, put, tiny

NETWORK = ("--backbone", "tf_efficientnet_lite0")


def refused(ran: Ran, *named: str) -> None:
    """The promise: code 2, nothing on stdout, one sentence on stderr that names what is wrong."""
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err.startswith("fallow: ")
    assert ran.err.endswith("\n")
    assert ran.err.count("\n") == 1, ran.err
    for text in named:
        assert text in ran.err, ran.err


def audit(run: Path) -> dict[str, Any]:
    return json.loads((run / "audit.json").read_text(encoding="utf-8"))


def skipped(run: Path) -> dict[str, str]:
    return {item["id"]: item["kind"] for item in audit(run)["skipped"]}


def counts(run: Path) -> dict[str, int]:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))["counts"]


# --- data that nothing can be learned from --------------------------------------------------------------------------


def _nothing(here: Path) -> Path:
    (here / "data").mkdir()
    return here / "data"


def _one_class(here: Path) -> Path:
    return photos(here / "data", classes=("cat",))


def _empty_class_folder(here: Path) -> Path:
    (photos(here / "data") / "train" / "cow").mkdir()
    return here / "data"


def _all_of_a_class_damaged(here: Path) -> Path:
    for file in (photos(here / "data") / "train" / "dog").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    return here / "data"


def _labels_missing(here: Path) -> Path:
    for i in range(4):
        put(here / "data" / f"{i}.png")
    return here / "data"


def _only_unlabeled(here: Path) -> Path:
    put(here / "data" / "unlabeled" / "1.png")
    put(here / "data" / "unlabeled" / "2.png")
    return here / "data"


def _no_image_at_all(here: Path) -> Path:
    (here / "data" / "train" / "cat").mkdir(parents=True)
    (here / "data" / "train" / "cat" / "notes.txt").write_text("no photo")
    return here / "data"


def _class_of_test_alone(here: Path) -> Path:
    put(photos(here / "data") / "test" / "cow" / "1.png", 2)
    return here / "data"


def _every_picture_twice(here: Path) -> Path:
    for i in range(2):
        put(here / "data" / "cat" / f"{i}.png", 0, seed=i)
        put(here / "data" / "dog" / f"{i}.png", 0, seed=i)
    return here / "data"


def _photo(here: Path) -> Path:
    return put(here / "data.png")


def _archive(here: Path) -> Path:
    (here / "data.zip").write_bytes(b"PK\x03\x04")
    return here / "data.zip"


def _pipe(here: Path) -> Path:
    os.mkfifo(here / "data.csv")
    return here / "data.csv"


def _link_to_itself(here: Path) -> Path:
    os.symlink("data", here / "data")
    return here / "data"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda here: here / "data", ("there is no folder or file", "data")),
        (lambda here: "", ("path of the data is empty",)),
        (_nothing, ("nothing found",)),
        (_no_image_at_all, ("nothing found", "notes.txt")),
        (_one_class, ("one class only", "'cat'", "two")),
        (_empty_class_folder, ("'cow'", "folder is empty")),
        (_all_of_a_class_damaged, ("'dog'", "3 could not be read", "train/dog/0.png")),
        (_labels_missing, ("labels are missing", "train/<class>/")),
        (_only_unlabeled, ("labels are missing",)),
        (_class_of_test_alone, ("'cow'", "test", "not in the training images")),
        (_every_picture_twice, ("no image is left", "two different labels")),
        (_photo, ("data.png", "class folders")),
        (_archive, ("data.zip", "class folders")),
        (_pipe, ("data.csv", "neither a folder nor a file")),
        (_link_to_itself, ("data", "cannot be read")),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_") if callable(value) else "",
)
def test_data_without_something_to_learn_is_refused_and_leaves_no_run_behind(
    fallow: Fallow, tmp_path: Path, make: Any, named: tuple[str, ...]
) -> None:
    refused(fallow("train", make(tmp_path), "--out", "run"), *named)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", ("nothing found",)),
        ("path,label\n", ("nothing found",)),
        ("path,label\nphotos/a.png,cat\nphotos/b.png,dog,black,big\n", ("line 3", "4 columns", "quotes")),
        ('path,label\nphotos/a.png,cat\n"photos/b.png,dog\n', ("line 3", "cannot be read")),
        ("path,label\nphotos/a.png,cat\n,dog\n", ("line 3", "no path")),
        (b"path,label\nphotos/a.png,cat\n\xff\xd8\xff\xe0\x00\x10,dog\n", ("line 3", "UTF-8")),
        (b"path,label\nphotos/a.png,c\x00at\n", ("line 2", "zero bytes")),
        ("path,label\nnowhere/a.png,cat\nnowhere/b.png,dog\n", ("none of the 2 files", "nowhere/a.png")),
        ("path,label\n" + "x" * 5000 + ".png,cat\n", ("none of the 1 files",)),
        ("path,label,split\nphotos/a.png,cat,tset\n", ("line 2", "'tset'", "train, val, test")),
        ("path,kind,place\nphotos/a.png,cat,home\n", ("which column is the label", "kind, place")),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_with_the_number_of_the_line(
    fallow: Fallow, content: str | bytes, named: tuple[str, ...]
) -> None:
    put(Path("photos/a.png"))
    put(Path("photos/b.png"))
    Path("list.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(fallow("train", "list.csv", "--out", "run"), "list.csv", *named)
    assert not Path("run").exists()


def test_a_label_that_the_label_map_lacks_is_refused_with_its_line(fallow: Fallow) -> None:
    put(Path("data/a.png"))
    put(Path("data/b.png"))
    Path("data/train.csv").write_text("a.png,0\nb.png,7\n")
    Path("data/label_map.csv").write_text("0,cat\n1,dog\n")
    refused(fallow("train", "data", "--out", "run"), "line 2", "train.csv", "'7'", "label_map.csv")
    assert not Path("run").exists()


# --- where a run may be written -------------------------------------------------------------------------------------


def test_an_output_folder_that_holds_something_is_refused_and_not_touched(
    fallow: Fallow, tmp_path: Path
) -> None:
    Path("out").mkdir()
    Path("out/letter.txt").write_text("mine")
    refused(fallow("train", photos(tmp_path / "data"), "--out", "out"), "'out'", "not empty", "--out")
    assert [p.name for p in Path("out").iterdir()] == ["letter.txt"]


def test_an_output_path_that_is_a_file_or_below_one_is_refused(fallow: Fallow, tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    Path("file").write_text("mine")
    refused(fallow("train", data, "--out", "file"), "'file'", "is a file", "--out")
    refused(fallow("train", data, "--out", "file/run"), "'file/run'", "cannot be made", "--out")
    assert Path("file").read_text() == "mine"


def test_too_little_disk_is_refused_before_anything_is_done(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos(tmp_path / "data")
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5, 5))
        refused(fallow("train", data, "--out", "run"), "not enough disk", "'run'", "--out")
    assert fallow("train", data, "--out", "run").code == 0


@pytest.mark.parametrize(
    ("file", "usable"),
    [
        (".splits.parquet.", False),
        ("1-probe/metrics.jsonl", False),
        ("model.safetensors", False),
        ("2-propagate/.final.json", True),
        (".report.html.", True),
    ],
)
def test_a_disk_that_fills_up_leaves_what_was_computed_and_the_run_goes_on_from_there(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, usable: bool
) -> None:
    data = photos(tmp_path / "data")
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if file in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(fallow("train", data, "--out", "run"), "free some space", "--resume")
    assert not list(Path("run").rglob("*.part"))
    if usable:
        assert fallow("predict", "run", data / "unlabeled").out.count("\n") == 9
    assert fallow("train", data, "--out", "run", "--resume").code == 0
    assert Path("run/result.json").is_file()


def test_a_cache_that_cannot_be_written_is_named(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("no folder")
    monkeypatch.setenv("FALLOW_CACHE", str(Path("file").absolute()))
    refused(fallow("train", photos(tmp_path / "data"), "--out", "run"), "FALLOW_CACHE", "file")


# --- options, keys and values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("tran", "data"), ("tran", "train")),
        (("train",), ("DATA",)),
        (("train", "data", "--budgte", "1m"), ("--budgte", "--budget")),
        (("train", "data", "more"), ("more",)),
        (("train", "data", "--set", "embed.vews=flip"), ("embed.vews", "'embed.views'")),
        (("train", "data", "--set", "views=flip"), ("'views'", "'embed.views'")),
        (("train", "data", "--set", "qqq=1"), ("'qqq'", "fallow init")),
        (("train", "data", "--set", "embed.views"), ("embed.views", "key=value")),
        (("train", "data", "--set", "embed.size=[1"), ("embed.size=[1", "YAML")),
        (("train", "data", "--set", "propagate=3"), ("'propagate'", "neighbors, alpha")),
        (("train", "data", "--set", "seed.x=3"), ("'seed'", "not keys")),
        (("train", "data", "--set", "seed=no"), ("'seed'", "whole number")),
        (("train", "data", "--set", "offline=maybe"), ("'offline'", "true or false")),
        (("train", "data", "--seed", "-1"), ("'seed'", "from 0")),
        (("train", "data", "--seed", "99999999999"), ("'seed'", "to 4294967295")),
        (("train", "data", "--budget", "soon"), ("'budget'", "'soon'", "10m")),
        (("train", "data", "--budget", "1s"), ("'budget'", "5s")),
        (("train", "data", "--rungs", "probe,propgate"), ("'propgate'", "'propagate'")),
        (("train", "data", "--backbone", "resnet5O"), ("'resnet5O'", "'resnet50'")),
        (("train", "data", "--backbone", "pixels+"), ("'pixels+'", "joined by +")),
        (("train", "data", "--resume"), ("--resume", "--out")),
        (("train", "data", "--config", "nowhere.yaml"), ("nowhere.yaml", "No such file")),
    ],
    ids=lambda value: " ".join(value[2:] or value) if value and value[0] in ("train", "tran") else "",
)
def test_an_option_key_or_value_that_does_not_exist_is_named_with_the_nearest(
    fallow: Fallow, tmp_path: Path, words: tuple[str, ...], named: tuple[str, ...]
) -> None:
    photos(tmp_path / "data")
    refused(fallow(*words), *named)
    assert not list(tmp_path.glob("runs/*"))


def test_all_wrong_values_are_told_at_once(fallow: Fallow, tmp_path: Path) -> None:
    ran = fallow(
        *(
            "train",
            photos(tmp_path / "data"),
            "--seed",
            "x",
            "--size",
            "4",
            "--views",
            "flop",
            "--budget",
            "never",
        ),
        *("--set", "propagate.alpha=2", "--set", "choose.folds=many", "--set", "embed.colour=red"),
    )
    refused(ran, "'seed'", "'embed.size'", "from 8 to 1024", "'embed.views'", "none, flip, turns")
    refused(ran, "'budget'", "'propagate.alpha'", "below 1", "'choose.folds'", "'embed.colour'")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"budget: [1m", ("not valid YAML", "line 1")),
        (b"budget: 1m\nbugdet: 2m\n", ("'bugdet'", "'budget'")),
        (b"embed:\n  views: up\n", ("'embed.views'", "'up'")),
        (b"- 1\n- 2\n", ("keys and values",)),
        (b"", ("keys and values",)),
        (b"\xff\xfe\x00\x81", ("not valid YAML",)),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(
    fallow: Fallow, tmp_path: Path, content: bytes, named: tuple[str, ...]
) -> None:
    Path("my.yaml").write_bytes(content)
    refused(
        fallow("train", photos(tmp_path / "data"), "--config", "my.yaml", "--out", "run"), "my.yaml", *named
    )
    assert not Path("run").exists()


# --- weights --------------------------------------------------------------------------------------------------------


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": _Code()}))


def _saved_object(path: Path) -> None:
    torch.save({"weight": _Code()}, path)


@pytest.mark.parametrize(
    ("name", "write", "named"),
    [
        ("none.pt", None, ("no such file",)),
        ("some.txt", lambda path: path.write_text("x"), ("type is unknown", ".safetensors")),
        ("some.pt", lambda path: path.write_text("x"), ("damaged",)),
        ("some.safetensors", lambda path: path.write_text("x"), ("cannot be read",)),
        ("code.pt", _pickle, ("cannot be read",)),
        ("code.pth", _saved_object, ("code or objects", "state_dict")),
        (
            "other.pt",
            lambda path: torch.save({"a": torch.zeros(3)}, path),
            ("do not fit", "missing", "unexpected: a"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_that_cannot_be_used_are_refused_and_no_code_in_them_runs(
    fallow: Fallow, tmp_path: Path, name: str, write: Any, named: tuple[str, ...]
) -> None:
    if write is not None:
        write(tmp_path / name)
    data = photos(tmp_path / "data")
    refused(fallow("train", data, "--out", "run", *NETWORK, "--weights", name), name, *named)
    assert not Path("ran").exists()
    assert not Path("run").exists()


def test_weights_for_a_backbone_that_has_none_are_refused(fallow: Fallow, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, "some.pt")
    refused(fallow("train", photos(tmp_path / "data"), "--weights", "some.pt"), "'pixels' has no weights")


def test_a_backbone_without_weights_on_this_machine_is_refused_offline(
    fallow: Fallow, tmp_path: Path
) -> None:
    refused(
        fallow("train", photos(tmp_path / "data"), "--out", "run", "--backbone", "resnet18"),
        *("'resnet18'", "offline", "--weights"),
    )
    assert not Path("run").exists()


# --- resuming -------------------------------------------------------------------------------------------------------


def test_what_is_no_run_cannot_be_resumed(fallow: Fallow, tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    refused(fallow("train", data, "--out", "nowhere", "--resume"), "'nowhere'", "not a run")
    refused(fallow("train", data, "--out", data, "--resume"), "not a run")
    assert not Path("nowhere").exists()


def test_a_run_is_not_resumed_with_other_options_or_other_data_and_stays_as_it_is(
    fallow: Fallow, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "run", "run")
    before = {p: p.stat().st_mtime_ns for p in sorted(Path("run").rglob("*"))}
    data = trained / "photos"
    refused(fallow("train", data, "--out", "run", "--resume", "--seed", "7"), "'run'", "seed")
    refused(fallow("train", data, "--out", "run", "--resume", "--sed", "7"), "--sed", "--seed")
    refused(fallow("train", photos(tmp_path / "other"), "--out", "run", "--resume"), "started on", "other")
    assert {p: p.stat().st_mtime_ns for p in sorted(Path("run").rglob("*"))} == before


def test_a_run_whose_images_changed_is_not_resumed_and_stays_as_it_is(fallow: Fallow, tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    assert fallow("train", data, "--out", "run").code == 0
    Path("run/result.json").unlink()
    put(data / "train" / "cat" / "another.png")
    refused(fallow("train", data, "--out", "run", "--resume"), "changed", "'run'")
    assert Path("run/model/model.onnx").is_file()


# --- damaged and unusual files: the job goes on ---------------------------------------------------------------------


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _bomb() -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", zlib.compress(bytes(99))) + _chunk(b"IEND", b"")


def test_damaged_files_are_skipped_counted_and_listed_and_training_goes_on(
    fallow: Fallow, tmp_path: Path
) -> None:
    pool = photos(tmp_path / "data") / "unlabeled"
    good = (pool / "0.png").read_bytes()
    changed = bytearray(good)
    changed[-30] ^= 255
    for name, content in {
        "zero.png": b"",
        "short.png": good[: len(good) // 2],
        "letter.jpg": b"Dear all, this is no photo.",
        "changed.png": bytes(changed),
        "bomb.png": _bomb(),
        "film.jpg": b"\0\0\0\x18ftypheic" + bytes(64),
    }.items():
        (pool / name).write_bytes(content)
    ran = fallow("train", tmp_path / "data", "--out", "run")
    assert ran.code == 0
    assert "6 files skipped" in ran.out
    assert skipped(Path("run")) == {
        "unlabeled/zero.png": "empty",
        "unlabeled/short.png": "truncated",
        "unlabeled/letter.jpg": "not_an_image",
        "unlabeled/changed.png": "damaged",
        "unlabeled/bomb.png": "too_large",
        "unlabeled/film.jpg": "not_an_image",
    }
    assert counts(Path("run"))["unlabeled"] == 8


def test_pipes_sockets_and_links_in_circles_are_passed_by(fallow: Fallow, tmp_path: Path) -> None:
    pool = photos(tmp_path / "data") / "unlabeled"
    os.mkfifo(pool / "pipe.png")
    os.symlink("nowhere.png", pool / "broken.png")
    os.symlink("itself", pool / "itself")
    os.symlink(".", pool / "circle")
    os.symlink("../..", pool / "above")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(pool)  # the name of a socket may not be long
        listening.bind("socket.png")
        os.chdir(tmp_path)
        assert fallow("train", "data", "--out", "run").code == 0
    found = skipped(Path("run"))
    assert found.pop("unlabeled/itself") == "unreadable"
    assert {k: v for k, v in found.items() if not k.startswith("unlabeled/above")} == {
        "unlabeled/pipe.png": "unreadable",
        "unlabeled/broken.png": "missing",
        "unlabeled/socket.png": "unreadable",
    }
    assert counts(Path("run"))["unlabeled"] == 8


def test_a_folder_that_cannot_be_read_is_listed_and_the_others_are_used(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos(tmp_path / "data")
    put(data / "unlabeled" / "locked" / "1.png")
    scandir = os.scandir

    def locked(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    assert fallow("train", data, "--out", "run").code == 0
    assert skipped(Path("run")) == {"unlabeled/locked/": "unreadable"}


def test_names_that_are_not_utf8_are_read_and_shown(fallow: Fallow, tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"caf\xe9")
    photos(data)
    for kind in (0, 1):
        image = io.BytesIO()
        Image.fromarray(tiny(kind)).save(image, "PNG")
        (data / "unlabeled" / os.fsdecode(b"\xff%d.png" % kind)).write_bytes(image.getvalue())
    assert fallow("train", data, "--out", "run").code == 0
    assert counts(Path("run"))["unlabeled"] == 10
    ran = fallow("predict", "run", data / "unlabeled")
    assert ran.code == 0
    assert "\\xff0.png,cat" in ran.out
    assert fallow("train", data, "--out", "run", "--resume").code == 0


def test_every_kind_of_picture_is_read(fallow: Fallow, tmp_path: Path) -> None:
    pool = photos(tmp_path / "data", pool=0) / "unlabeled"
    pool.mkdir()
    image = [Image.fromarray(tiny(i % 2)) for i in range(12)]
    turned = Image.Exif()
    turned[0x0112] = 6
    image[0].save(pool / "plain.jpg")
    image[1].convert("CMYK").save(pool / "cmyk.jpg")
    image[2].save(pool / "turned.jpg", exif=turned)
    image[3].convert("P").save(pool / "palette.png")
    image[4].convert("L").save(pool / "gray.png")
    image[5].convert("RGBA").save(pool / "clear.png")
    image[6].save(pool / "some.webp")
    image[7].save(pool / "some.bmp")
    image[8].save(pool / "some.tif")
    image[9].save(pool / "film.gif", save_all=True, append_images=[image[10]])
    deep = np.asarray(image[11].convert("L")).astype(np.uint16) * 200
    Image.fromarray(deep).save(pool / "deep.png")
    Image.fromarray(deep.T.copy()).save(pool / "deep.tiff")
    assert fallow("train", tmp_path / "data", "--out", "run").code == 0
    assert skipped(Path("run")) == {}
    assert counts(Path("run"))["unlabeled"] == 12
    assert audit(Path("run"))["pixel_scale"] is not None


def test_files_that_a_list_names_and_that_do_not_exist_are_skipped(fallow: Fallow, tmp_path: Path) -> None:
    photos(tmp_path / "data")
    lines = [f"data/train/{c}/{i}.png,{c}" for c in ("cat", "dog") for i in range(3)]
    Path("list.csv").write_text("\n".join(["path,label", *lines, "data/gone.png,cat", "data/gone2.png,"]))
    assert fallow("train", "list.csv", "--out", "run").code == 0
    assert skipped(Path("run")) == {"data/gone.png": "missing", "data/gone2.png": "missing"}


def test_damaged_test_images_leave_the_held_out_figures(fallow: Fallow, tmp_path: Path) -> None:
    for file in (photos(tmp_path / "data") / "test").rglob("*.png"):
        file.write_bytes(b"")
    ran = fallow("train", tmp_path / "data", "--out", "run", "--json")
    result = json.loads(ran.out)
    assert result["chosen"]["test"] is None
    assert result["chosen"]["held_out"] is not None
    assert result["counts"]["skipped"] == 4


def test_damaged_unlabeled_images_leave_the_labels_only_part(fallow: Fallow, tmp_path: Path) -> None:
    for file in (photos(tmp_path / "data") / "unlabeled").iterdir():
        file.write_bytes(b"x")
    ran = fallow("train", tmp_path / "data", "--out", "run", "--json")
    result = json.loads(ran.out)
    assert [rung["rung"] for rung in result["rungs"]] == ["probe"]
    assert "no unlabeled images" in result["verdict"]


def test_a_picture_with_two_labels_is_left_out_and_reported(fallow: Fallow, tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    shutil.copy(data / "train" / "cat" / "0.png", data / "train" / "dog" / "same.png")
    assert fallow("train", data, "--out", "run").code == 0
    (conflict,) = audit(Path("run"))["conflicts"]
    assert conflict["ids"] == ["train/cat/0.png", "train/dog/same.png"]
    assert counts(Path("run"))["labeled"] == 5


def test_a_twin_of_a_test_image_leaves_the_training_data_and_is_reported(
    fallow: Fallow, tmp_path: Path
) -> None:
    data = photos(tmp_path / "data")
    shutil.copy(data / "test" / "cat" / "0.png", data / "train" / "cat" / "same.png")
    assert fallow("train", data, "--out", "run").code == 0
    (leak,) = audit(Path("run"))["leaks"]
    assert (leak["id"], leak["twin"]) == ("train/cat/same.png", "test/cat/0.png")
    assert counts(Path("run"))["labeled"] == 6


def test_one_image_a_class_and_nothing_else_is_enough(fallow: Fallow, tmp_path: Path) -> None:
    ran = fallow("train", photos(tmp_path / "data", labeled=1, pool=0, test=0), "--out", "run", "--json")
    result = json.loads(ran.out)
    assert ran.code == 0
    assert result["chosen"]["held_out"] is None
    assert result["chosen"]["test"] is None


def test_runs_beside_the_photos_are_no_photos(
    fallow: Fallow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "data", pool=0, test=0)
    monkeypatch.chdir(tmp_path / "data" / "train")
    assert fallow("train", ".").code == 0
    assert fallow("train", ".", "--out", "second").code == 0
    assert fallow("train", ".", "--out", "third").code == 0
    assert counts(Path("third"))["classes"] == 2
    assert audit(Path("third"))["skipped"] == []


# --- predict, evaluate, export, init, demo, doctor ------------------------------------------------------------------


def test_predict_refuses_what_it_cannot_find(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    run, image = trained / "run", put(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    refused(fallow("predict", run), "give the images")
    refused(fallow("predict", run, image, "nowhere.png"), "'nowhere.png'", "does not exist")
    refused(fallow("predict", run, "*.tiff"), "'*.tiff'", "matches nothing")
    refused(fallow("predict", run, "empty"), "'empty'", "no images")
    refused(fallow("predict", "nowhere", image), "'nowhere'", "no model")
    refused(fallow("predict", tmp_path, image), "no model", "run directory")
    refused(fallow("predict", run, image, "--format", "xml"), "xml", "csv", "jsonl")


def test_predict_refuses_a_damaged_model(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    image = put(tmp_path / "a.png")
    for name, content, named in (
        ("model.onnx", b"x", "is damaged"),
        ("model.safetensors", None, "is missing"),
        ("model.json", b"{", "JSON"),
        ("model.json", b"[]", "format"),
        ("model.json", b'{"format": 1}', "incomplete"),
    ):
        shutil.copytree(trained / "run" / "model", "model")
        (tmp_path / "model" / name).unlink()
        if content is not None:
            (tmp_path / "model" / name).write_bytes(content)
        refused(fallow("predict", "model", image), name, named)
        shutil.rmtree("model")


def test_predict_says_of_a_stopped_run_how_to_go_on(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", "run", ignore=shutil.ignore_patterns("model"))
    refused(fallow("predict", "run", put(tmp_path / "a.png")), "'run'", "--resume")


def test_predict_lists_what_it_cannot_read_and_predicts_the_rest(fallow: Fallow, trained: Path) -> None:
    put(Path("new/a.png"), 1)
    Path("new/b.png").write_bytes(b"")
    os.symlink("nowhere", "new/c.png")
    ran = fallow("predict", trained / "run", "new")
    assert ran.code == 0
    assert [line.split(",")[1] for line in ran.out.splitlines()] == ["label", "dog", "", ""]
    assert "zero bytes" in ran.out.splitlines()[2]
    assert ran.err.startswith("fallow: 2 of 3 images could not be read; the first is 'new/b.png'")
    only_bad = fallow("predict", trained / "run", "new/b.png")
    assert only_bad.code == 2
    assert "none of the 1 images can be read" in only_bad.err
    assert "zero bytes" in only_bad.out


def test_predict_refuses_a_file_that_cannot_be_written_and_leaves_the_old_one(
    fallow: Fallow, trained: Path
) -> None:
    put(Path("new/a.png"))
    Path("old.csv").write_text("old")
    refused(fallow("predict", trained / "run", "new", "--out", "new"), "'new'", "cannot be written")
    refused(fallow("predict", trained / "run", "new", "--out", "old.csv/x"), "cannot be written")
    refused(fallow("predict", trained / "run", "new", "--out", "/dev/full"), "/dev/full", "disk is full")
    refused(fallow("predict", trained / "run", "nowhere", "--out", "old.csv"), "'nowhere'")
    assert Path("old.csv").read_text() == "old"
    assert sorted(p.name for p in Path().iterdir()) == ["new", "old.csv"]


def test_evaluate_refuses_what_it_cannot_measure(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    run = trained / "run"
    photos(tmp_path / "cows", classes=("cat", "cow"))
    photos(tmp_path / "bad", labeled=0, pool=1)
    for file in (tmp_path / "bad" / "test").rglob("*.png"):
        file.write_bytes(b"")
    refused(fallow("evaluate", run, "nowhere"), "'nowhere'")
    refused(fallow("evaluate", run, "cows"), "'cow'", "cat, dog")
    refused(fallow("evaluate", run, "cows/unlabeled"), "no labeled images")
    refused(fallow("evaluate", run, "cows", "--split", "tset"), "tset", "test")
    refused(fallow("evaluate", run, "cows", "--split", "val"), "no labeled images in val", "train, test")
    refused(fallow("evaluate", run, "bad"), "none of the 4 labeled images", "zero bytes")
    refused(fallow("evaluate", tmp_path / "cows", "cows"), "no model")


def test_export_refuses_a_place_that_is_taken(fallow: Fallow, trained: Path, tmp_path: Path) -> None:
    put(tmp_path / "taken" / "a.png")
    Path("file").write_text("mine")
    refused(fallow("export", trained / "run", "--out", "taken"), "'taken'", "not empty")
    refused(fallow("export", trained / "run", "--out", "file"), "'file'", "not empty")
    refused(fallow("export", trained / "run", "--out", "file/model"), "'file/model'", "cannot be written")
    refused(fallow("export", trained / "run", "--format", "tflite"), "tflite", "onnx")
    refused(fallow("export", "taken", "--out", "model"), "'taken'", "no model")
    assert sorted(p.name for p in Path().iterdir()) == ["file", "taken"]


def test_init_refuses_a_place_that_is_taken(fallow: Fallow) -> None:
    Path("mine.yaml").write_text("mine")
    refused(fallow("init", "mine.yaml"), "'mine.yaml'", "there already")
    refused(fallow("init", "mine.yaml/x.yaml"), "cannot be written")
    assert Path("mine.yaml").read_text() == "mine"


def test_demo_refuses_before_it_writes_anything(fallow: Fallow) -> None:
    Path("file").write_text("mine")
    refused(fallow("demo", "file"), "'file'", "not empty")
    refused(fallow("demo", "new", "--seed", "-1"), "'seed'")
    refused(fallow("demo", "new", "--budget", "soon"), "'budget'", "soon")
    refused(fallow("demo", "file/new"), "cannot be written")
    assert [p.name for p in Path().iterdir()] == ["file"]


def test_doctor_says_what_is_wrong_with_the_cache(fallow: Fallow, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("no folder")
    monkeypatch.setenv("FALLOW_CACHE", str(Path("file").absolute()))
    ran = fallow("doctor")
    assert ran.code == 0
    assert "set FALLOW_CACHE to a folder" in ran.out


# --- as a process of its own ----------------------------------------------------------------------------------------


def process(*words: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fallow.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, timeout=120)


def test_a_process_ends_with_the_code_and_the_sentence_and_no_traceback(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", classes=("cat",))
    for words, named in (
        (("train", data, "--out", "run", *QUICK), "one class only"),
        (("train", data, "--sead", "3"), "--seed"),
        (("train", "nowhere"), "'nowhere'"),
    ):
        ended = process(*words)
        refused(Ran(ended.returncode, ended.stdout, ended.stderr), named)
    assert not Path("run").exists()


def test_a_process_whose_output_cannot_be_written_says_so(trained: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", "from fallow.cli import main; main()", "methods"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("fallow: the output cannot be written")
    assert ended.stderr.count("\n") == 1
