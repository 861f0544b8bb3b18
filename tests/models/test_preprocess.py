from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fallow.errors import ConfigError, DataError
from fallow.models import VIEWS, Preprocess, apply_view, view_indices
from tests.networks import digits, photos


def test_it_is_pillows_bicubic_resize_and_the_usual_normalization() -> None:
    image = photos(1)[0][0]
    assert image.shape[0] < 2 * image.shape[1]  # beyond that, Pillow itself may take height first
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    expected = np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.BICUBIC)) / 255
    expected = ((expected - mean) / std).transpose(2, 0, 1)
    got = Preprocess(24, mean, std)(image)
    assert (got.shape, got.dtype) == ((3, 24, 24), np.float32)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_width_goes_first_in_every_shape_and_pillow() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 7, 3), np.uint8)
    across = Image.fromarray(image).resize((16, 300), Image.Resampling.BICUBIC)
    expected = np.asarray(across.resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Preprocess(16).resize(image), expected)


def test_an_image_of_the_right_size_is_untouched() -> None:
    image = digits(1)[0][0]
    np.testing.assert_array_equal(Preprocess(8).resize(image), image)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"\(height, width, 3\)"):
        Preprocess(8).resize(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="float32"):
        Preprocess(8).resize(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]


def test_bad_settings_are_refused() -> None:
    for settings in ({"size": 0}, {"size": 8, "std": (1.0, 0.0, 1.0)}, {"size": 8, "mode": "crop"}):
        with pytest.raises(ConfigError):
            Preprocess(**settings)  # type: ignore[arg-type]


def test_views_are_the_eight_symmetries_of_the_square() -> None:
    x = np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)
    views = [apply_view(x, index) for index in view_indices("turns")]
    assert len({view.tobytes() for view in map(np.ascontiguousarray, views)}) == 8
    np.testing.assert_array_equal(views[0], x)
    np.testing.assert_array_equal(apply_view(x, VIEWS["flip"][1]), x[:, :, ::-1])
    np.testing.assert_array_equal(views[1], np.rot90(x, 1, (1, 2)))
    np.testing.assert_array_equal(views[5], np.rot90(x[:, :, ::-1], 1, (1, 2)))
    for index, view in enumerate(views):
        np.testing.assert_array_equal(apply_view(torch.from_numpy(x), index).numpy(), view)
    assert set(VIEWS["none"]) < set(VIEWS["flip"]) < set(VIEWS["turns"])
    with pytest.raises(ConfigError, match="Did you mean 'turns'"):
        view_indices("turn")
