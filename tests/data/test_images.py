from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fallow.data import ImageError, PixelScale, decode
from tests.data.conftest import encoded, picture


def kind_of(blob: bytes) -> str:
    with pytest.raises(ImageError) as error:
        decode(blob, "x.jpg")
    assert "x.jpg" in str(error.value)
    assert "\n" not in str(error.value)
    return error.value.kind


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_same_pixels(kind: str) -> None:
    array = picture(1)
    pixels = decode(encoded(array, kind), "x")
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, array)


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("GIF", {})]
)
def test_lossy_formats_are_close(kind: str, options: dict[str, int]) -> None:
    array = picture(2)
    pixels = decode(encoded(array, kind, **options), "x")
    assert pixels.shape == array.shape
    assert np.abs(pixels.astype(int) - array).mean() < 12


def test_gray_and_one_bit_become_rgb() -> None:
    gray = picture(3)[..., 0]
    np.testing.assert_array_equal(decode(encoded(gray), "x"), np.repeat(gray[..., None], 3, 2))
    bits = decode(saved(Image.fromarray(gray).convert("1"), "PNG"), "x")
    assert set(np.unique(bits)) == {0, 255}
    assert bits.shape == (80, 96, 3)


def test_cmyk_jpeg_keeps_its_colors() -> None:
    red = Image.new("RGB", (40, 30), (220, 30, 20)).convert("CMYK")
    pixels = decode(saved(red, "JPEG", quality=95), "x")
    assert pixels.shape == (30, 40, 3)
    assert np.abs(pixels.astype(int) - (220, 30, 20)).max() < 12


def test_transparency_is_laid_over_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, :] = (255, 0, 0, 255)
    rgba[2, :, :] = (0, 0, 0, 128)
    pixels = decode(encoded(rgba), "x")
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[2, 0].tolist() == [127, 127, 127]
    assert pixels[3, 0].tolist() == [255, 255, 255]  # black in the file, but nothing of it is seen
    la = decode(encoded(np.array([[[10, 255], [10, 0]]], np.uint8)), "x")
    assert la[0, :, 0].tolist() == [10, 255]


def test_palette_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 0, 255, 0])
    image.putpixel((1, 0), 1)
    pixels = decode(saved(image, "PNG", transparency=1), "x")
    assert pixels[0].tolist() == [[0, 0, 255], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str) -> None:
    image = Image.new("RGB", (60, 20), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, 30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    pixels = decode(saved(image, kind, exif=exif), "x")
    assert pixels.shape == (60, 20, 3)
    assert pixels[5, 10, 1] < 60
    assert pixels[55, 10, 1] > 200


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    pixels = decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x")
    assert pixels[10, 10].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut(kind: str) -> None:
    deep = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(32, 32)
    full = decode(encoded(deep, kind), "x")
    assert full.shape == (32, 32, 3)
    assert (np.diff(full[..., 0].reshape(-1).astype(int)) >= 0).all()  # cut off, it would wrap around
    twelve = (deep >> 4).astype(np.uint16)
    dark = decode(encoded(twelve, kind), "x")
    assert dark.max() <= 16
    assert decode(encoded(twelve, kind), "x", PixelScale(0, 4095)).max() == 255


def test_wide_integers_and_floats() -> None:
    for deep in (
        np.array([[0, 1000], [2000, 3000]], np.int32),
        np.array([[0, 0.25], [0.5, 0.75]], np.float32),
    ):
        top = float(deep.max())
        pixels = decode(encoded(deep, "TIFF"), "x", PixelScale(0, top))
        assert pixels[..., 0].reshape(-1).tolist() == [0, 85, 170, 255]
    holes = np.array([[np.nan, 0.5], [1.0, np.inf]], np.float32)
    assert decode(encoded(holes, "TIFF"), "x", PixelScale(0, 1))[..., 0].reshape(-1).tolist() == [
        0,
        128,
        255,
        255,
    ]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_are_errors(kind: str, part: float) -> None:
    blob = encoded(picture(4), kind)
    assert kind_of(blob[: int(len(blob) * part)]) in ("truncated", "damaged")


def test_tail_of_zeros_is_truncated() -> None:
    blob = encoded(picture(5), "JPEG")
    half = len(blob) // 2
    assert kind_of(blob[:half] + bytes(len(blob) - half)) == "truncated"
    decode(blob + bytes(4096), "x")  # padding behind a whole image harms nobody


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_flipped_bytes_in_a_png_are_damage(at: float) -> None:
    blob = bytearray(encoded(picture(6)))
    middle = int(len(blob) * at)
    for i in range(middle, middle + 4):
        blob[i] ^= 0xFF
    assert kind_of(bytes(blob)) == "damaged"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flipped_bytes_in_other_formats_never_escape() -> None:
    rng = np.random.default_rng(0)
    told = 0
    for kind in ("JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        clean = encoded(picture(7), kind)
        for _ in range(25):
            blob = bytearray(clean)
            for i in rng.integers(0, len(blob), 12):
                blob[i] = int(rng.integers(0, 256))
            with contextlib.suppress(
                ImageError
            ):  # some decoders mend what they can; nothing else may come out
                assert decode(bytes(blob), "x").shape[2] == 3
                continue
            told += 1
    assert told > 10


def test_no_images() -> None:
    assert kind_of(b"") == "empty"
    assert kind_of(b"hello, I am a text with the wrong name") == "not_an_image"
    assert kind_of(b"%PDF-1.7 ...........................") == "not_an_image"
    assert kind_of(b"BMW and other words that begin like a bitmap") == "not_an_image"
    assert kind_of(b"\xff\xd8\xff") in ("damaged", "truncated")
    with pytest.raises(ImageError, match="HEIC"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "x")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    assert kind_of(png) == "too_large"
    gif = bytearray(encoded(picture(1)[..., 0], "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    assert kind_of(bytes(gif)) == "too_large"


def test_arrays_are_never_unpickled() -> None:
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert kind_of(content.getvalue()) == "damaged"
