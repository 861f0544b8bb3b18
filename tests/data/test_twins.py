from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from fallow.data import ArraySource, audit, open_source
from fallow.data.images import decode_native
from fallow.data.scan import _print
from fallow.data.twins import RADIUS, _near_pairs
from tests.data.conftest import encoded, picture

FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")


def resized(array: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.BICUBIC))


CHANGES = {
    "jpeg 75": lambda a: encoded(a, "JPEG", quality=75),
    "jpeg 30": lambda a: encoded(a, "JPEG", quality=30),
    "webp": lambda a: encoded(a, "WEBP", quality=60),
    "half": lambda a: encoded(resized(a, 64), "PNG"),
    "double": lambda a: encoded(resized(a, 256), "JPEG"),
    "gif": lambda a: encoded(a, "GIF"),
}


def test_images_encoded_again_are_found_and_others_are_not(tmp_path: Path) -> None:
    originals = [picture(i, 128, 128) for i in range(40)]
    for i, array in enumerate(originals):
        (tmp_path / f"{i:02}.png").write_bytes(encoded(array))
    expected = set()
    for i, (name, change) in enumerate(CHANGES.items()):
        (tmp_path / f"{i:02}-{name}").write_bytes(change(originals[i]))
        expected.add((f"{i:02}-{name}", f"{i:02}.png"))
    found = audit(open_source(tmp_path))
    assert {twins.ids for twins in found.twins} == expected
    assert {twins.how for twins in found.twins} == {"encoded again"}
    assert len(found.table) == 40


def test_same_pixels_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(0, 20, 20)))
    (tmp_path / "b.bmp").write_bytes(encoded(picture(0, 20, 20), "BMP"))
    assert [(t.ids, t.how) for t in audit(open_source(tmp_path)).twins] == [
        (("a.png", "b.bmp"), "same pixels")
    ]


def test_small_images_are_twins_only_pixel_by_pixel(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(0, 47, 60)))
    (tmp_path / "b.jpg").write_bytes(encoded(picture(0, 47, 60), "JPEG", quality=95))
    assert audit(open_source(tmp_path)).twins == []


@pytest.mark.parametrize("side", [8, 64])
def test_no_false_twins_among_digits(side: int) -> None:
    digits = load_digits()
    images = (digits.images * (255 / 16)).astype(np.uint8)
    if side != 8:
        images = np.stack([resized(image, side) for image in images])
    found = audit(ArraySource((images, digits.target)))
    assert found.twins == []
    assert len(found.table) == 1797


@pytest.mark.skipif(not FASHION.exists(), reason="needs Debian's dataset-fashion-mnist")
def test_no_false_twins_in_fashion_mnist() -> None:
    raw = np.frombuffer(gzip.decompress(FASHION.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    found = audit(ArraySource((raw, None)))
    assert found.twins == []
    large = np.stack([resized(image, 56) for image in raw[:1500]])
    for twins in audit(ArraySource((large, None))).twins:
        a, b = (raw[int(i.split(":")[2])].astype(float) for i in twins.ids)
        # True ones there are: the same shirt, a shade darker.
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.998


def test_flat_images_are_not_called_twins(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(6):
        noise = np.clip(120 + rng.normal(0, 4, (80, 80, 3)), 0, 255).astype(np.uint8)
        (tmp_path / f"{i}.jpg").write_bytes(encoded(noise, "JPEG", quality=80))
    ramp = np.repeat(np.linspace(100, 140, 80)[:, None, None], 80, 1).repeat(3, 2)
    for i in range(4):
        noisy = np.clip(ramp + rng.normal(0, 2, ramp.shape), 0, 255).astype(np.uint8)
        (tmp_path / f"sky{i}.png").write_bytes(encoded(noisy))
    assert audit(open_source(tmp_path)).twins == []


def test_filled_in_forms_and_pages_of_text_are_not_twins(tmp_path: Path) -> None:
    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "amount", "due", "net", "days"]
    font = ImageFont.load_default(14)
    for i in range(8):
        rng = np.random.default_rng(i)
        form, page = Image.new("L", (620, 877), 255), Image.new("L", (620, 877), 255)
        on_form, on_page = ImageDraw.Draw(form), ImageDraw.Draw(page)
        for line in range(26):
            y = 60 + 28 * line
            on_form.text(
                (40, y), " ".join(words[(line + k) % len(words)] for k in range(6)), font=font, fill=0
            )
            on_form.text(
                (380, y),
                f"{rng.choice(['Miller', 'Ito', 'Garcia'])} {rng.integers(1000)}",
                font=font,
                fill=40,
            )
            on_page.text((40, y), " ".join(rng.choice(words, 14)), font=font, fill=0)
        form.save(tmp_path / f"form{i}.png")
        page.save(tmp_path / f"page{i}.png")
    assert audit(open_source(tmp_path)).twins == []


def test_shirts_with_another_print_are_not_twins(tmp_path: Path) -> None:
    for i in range(2):
        image = picture(0, 128, 128)
        image[50:70, 50:70] = picture(1 + i, 20, 20)
        (tmp_path / f"{i}.png").write_bytes(encoded(image))
    assert audit(open_source(tmp_path)).twins == []


def test_all_near_pairs_are_found_and_each_once() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 400, dtype=np.uint64)
    for i in range(0, 400, 2):
        hashes[i + 1] = hashes[i]
        for bit in rng.choice(64, int(rng.integers(0, 10)), replace=False):
            hashes[i + 1] ^= np.uint64(1) << np.uint64(bit)
    found = [pair for i, j in _near_pairs(hashes) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    assert len(found) == len(set(found))
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
    expected = {(i, j) for i, j in zip(*np.nonzero(distance <= RADIUS), strict=True) if i < j}
    assert set(found) == expected
    assert 100 < len(expected) < 300


def test_prints_of_deep_images_follow_the_scale(tmp_path: Path) -> None:
    deep = picture(0, 96, 96)[..., 0].astype(np.uint16) * 16
    for name, kind in (("a.png", "PNG"), ("b.tif", "TIFF")):
        (tmp_path / name).write_bytes(encoded(deep, kind))
    (tmp_path / "other.png").write_bytes(encoded(np.roll(deep, 9, axis=0)))
    assert _print(decode_native((tmp_path / "a.png").read_bytes(), "a")).gray.dtype == np.float32
    found = audit(open_source(tmp_path))
    assert [t.ids for t in found.twins] == [("a.png", "b.tif")]
