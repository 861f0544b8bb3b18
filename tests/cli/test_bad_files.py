"""Damaged and unusual files are skipped, counted and listed, and the job is done with the rest."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.checks import audit, counts, skipped
from tests.cli.conftest import Fallow
from tests.photos import photos, put, tiny


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
    assert "no usable unlabeled images" in result["verdict"]


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
