from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from fallow.augment import TRANSFORMS, apply_all, compose, identity, warp
from fallow.augment.transforms import Drawn, paint_all


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 6, height: int = 24, width: int = 24) -> torch.Tensor:
    rough = torch.rand(n, 3, 6, 6, generator=generator(1))
    return torch.nn.functional.interpolate(rough, (height, width), mode="bicubic").clamp(0.02, 0.98)


GEOMETRIC = [name for name, t in TRANSFORMS.items() if t.kind == "geometric"]
PHOTOMETRIC = [name for name, t in TRANSFORMS.items() if t.kind == "photometric"]


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("size", [(24, 24), (17, 31), (1, 1)])
def test_stays_in_range_and_repeats(name: str, size: tuple[int, int]) -> None:
    x = images(5, *size)
    before = x.clone()
    first, affine = TRANSFORMS[name].apply(x, 0.8, generator(3))
    second, same = TRANSFORMS[name].apply(x, 0.8, generator(3))
    assert first.shape == x.shape
    assert affine.shape == (5, 2, 3)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert torch.equal(first, second)
    assert torch.equal(affine, same)
    assert torch.equal(x, before), "the input must not be changed"


@pytest.mark.parametrize("name", TRANSFORMS)
def test_strength_zero_changes_nothing(name: str) -> None:
    x = (images() * 255).round() / 255
    changed, affine = TRANSFORMS[name].apply(x, 0.0, generator())
    torch.testing.assert_close(changed, x, atol=2e-5, rtol=0)
    torch.testing.assert_close(affine, identity(len(x)))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_more_strength_changes_more(name: str) -> None:
    x = images(16)
    # The same draws at all strengths, so that only the strength differs.
    far = [float((TRANSFORMS[name].apply(x, s, generator(5))[0] - x).abs().mean()) for s in (0.1, 0.5, 1.0)]
    assert far[2] > 0.005
    if TRANSFORMS[name].graded and name not in ("rotate", "hue"):  # a half turn may look like none
        assert far[0] < far[1] < far[2]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_image_has_its_own_strength(name: str) -> None:
    x = (images(4) * 255).round() / 255
    changed, _ = TRANSFORMS[name].apply(x, torch.tensor([0.0, 1.0, 0.0, 1.0]), generator(2))
    torch.testing.assert_close(changed[[0, 2]], x[[0, 2]], atol=2e-5, rtol=0)
    assert float((changed[[1, 3]] - x[[1, 3]]).abs().mean()) > 0.005


def test_flips_and_half_turns_are_exact() -> None:
    x = images(3, 20, 28)
    for name, dims in (("hflip", [3]), ("vflip", [2]), ("rotate", [2, 3])):
        torch.testing.assert_close(
            TRANSFORMS[name].apply(x, 1.0, generator())[0], x.flip(dims), atol=2e-5, rtol=0
        )


def test_a_turn_keeps_lengths_and_angles_on_oblong_images() -> None:
    height, width = 20, 50
    _, affine = TRANSFORMS["rotate"].apply(images(4, height, width), 0.3, generator())
    scale = torch.tensor([width / 2, height / 2])
    in_pixels = affine[:, :, :2] * scale[None, :, None] / scale[None, None, :]
    torch.testing.assert_close(in_pixels @ in_pixels.transpose(1, 2), torch.eye(2).repeat(4, 1, 1))
    torch.testing.assert_close(in_pixels[:, 0, 0], torch.full((4,), math.cos(0.3 * math.pi)))


def test_quarter_turn_equals_rot90() -> None:
    x = images(8)
    turned, affine = TRANSFORMS["rotate"].apply(x, 0.5, generator())
    for i in range(8):
        quarter = 1 if affine[i, 0, 1] < 0 else -1  # 1: what was at the right comes to the top
        torch.testing.assert_close(turned[i], torch.rot90(x[i], quarter, (1, 2)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_pixels_stay_in_place(name: str) -> None:
    assert torch.equal(TRANSFORMS[name].apply(images(), 1.0, generator())[1], identity(6))


@pytest.mark.parametrize("name", GEOMETRIC)
def test_the_affine_says_where_pixels_came_from(name: str) -> None:
    x = images()
    changed, affine = TRANSFORMS[name].apply(x, 0.6, generator())
    torch.testing.assert_close(warp(x, affine), changed)


def test_compose_is_one_map_after_the_other() -> None:
    first, second = torch.randn(5, 2, 3, generator=generator(1)), torch.randn(5, 2, 3, generator=generator(2))
    point = torch.randn(5, 2, 1, generator=generator(3))

    def through(affine: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return affine[:, :, :2] @ p + affine[:, :, 2:]

    torch.testing.assert_close(through(compose(first, second), point), through(first, through(second, point)))


def test_several_are_resampled_once_and_land_where_each_would() -> None:
    x = images()
    steps = [(TRANSFORMS["hflip"], 1.0), (TRANSFORMS["rotate"], 1.0), (TRANSFORMS["solarize"], 1.0)]
    changed, affine = apply_all(x, steps, generator())
    torch.testing.assert_close(changed, 1 - x.flip([2]), atol=2e-5, rtol=0)
    torch.testing.assert_close(warp(x, affine), x.flip([2]), atol=2e-5, rtol=0)


def test_colors() -> None:
    x = images()
    luma = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    gray = TRANSFORMS["gray"].apply(x, 1.0, generator())[0]
    torch.testing.assert_close(gray, luma.expand_as(x))
    pale = 0.5 + 0.1 * (x - 0.5)  # so that nothing is clipped
    turned = TRANSFORMS["hue"].apply(pale, 0.7, generator())[0]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((turned * weights).sum(1), (pale * weights).sum(1), atol=1e-3, rtol=0)
    torch.testing.assert_close(TRANSFORMS["solarize"].apply(x, 1.0, generator())[0], 1 - x)
    assert set(TRANSFORMS["posterize"].apply(x, 1.0, generator())[0].unique().tolist()) == {0.0, 1.0}
    darker_or_brighter = TRANSFORMS["brightness"].apply(0.5 * x, 0.5, generator())[0] / (0.5 * x)
    assert set(darker_or_brighter.mean((1, 2, 3)).mul(10).round().int().tolist()) <= {6, 14}


def test_blur_agrees_with_scipy() -> None:
    x = images(2, 48, 48)
    mine = TRANSFORMS["blur"].apply(x, 0.5, generator())[0].numpy()
    sigma = 0.5 * 48 / 24
    theirs = np.stack([[gaussian_filter(c, sigma, mode="mirror", truncate=3) for c in im] for im in x])
    np.testing.assert_allclose(mine, theirs, atol=1e-4)


def by_pillow(x: torch.Tensor, change) -> torch.Tensor:
    """Return what a Pillow operation makes of images."""
    arrays = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
    out = np.stack([np.asarray(change(Image.fromarray(one))) for one in arrays])
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize(
    ("name", "change", "off"),
    [
        ("autocontrast", ImageOps.autocontrast, 1.01),
        ("equalize", ImageOps.equalize, 4.01),  # Pillow's table is in whole numbers
        ("gray", lambda image: image.convert("L").convert("RGB"), 1.01),
    ],
)
def test_agrees_with_pillow(name: str, change, off: float) -> None:
    x = (images(4, 160, 160) * 255).round() / 255
    mine = TRANSFORMS[name].apply(x, 1.0, generator())[0]
    assert 255 * float((mine - by_pillow(x, change)).abs().max()) < off


@pytest.mark.parametrize(
    ("name", "enhance", "reach"),
    [
        ("sharpness", ImageEnhance.Sharpness, 0.9),
        ("contrast", ImageEnhance.Contrast, 0.9),
        ("saturation", ImageEnhance.Color, 1.0),
        ("brightness", ImageEnhance.Brightness, 0.8),
    ],
)
def test_factors_agree_with_pillow(name: str, enhance, reach: float) -> None:
    x = (images(8, 40, 40) * 255).round() / 255
    mine = TRANSFORMS[name].apply(x, 0.7, generator())[0]
    for i in range(8):
        either = [
            by_pillow(x[i : i + 1], lambda image, f=1 + sign * 0.7 * reach: enhance(image).enhance(f))
            for sign in (-1, 1)
        ]
        assert min(255 * float((mine[i] - other[0]).abs().max()) for other in either) < 2.01


def test_constant_images_bear_everything() -> None:
    for value in (0.0, 0.4, 1.0):
        for transform in TRANSFORMS.values():
            changed = transform.apply(torch.full((3, 3, 9, 9), value), 1.0, generator())[0]
            assert bool(changed.isfinite().all())
    flat = torch.full((2, 3, 9, 9), 0.4)
    for name in ("equalize", "autocontrast", "sharpness", "cutout", "contrast"):
        torch.testing.assert_close(TRANSFORMS[name].apply(flat, 1.0, generator())[0], flat)


def test_tints_in_one_pass_are_the_same_as_one_by_one() -> None:
    pale = 0.5 + 0.05 * (images() - 0.5)  # so that nothing is clipped on the way
    names = ("contrast", "hue", "brightness", "saturation", "contrast")
    steps = [(TRANSFORMS[name], 0.3) for name in names]
    together = apply_all(pale, steps, generator())[0]
    one_by_one, same = pale, generator()
    for step in steps:
        one_by_one = apply_all(one_by_one, [step], same)[0]
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_image_does_not_depend_on_its_neighbors(name: str) -> None:
    x = images(6)
    strengths = torch.tensor([0.9, 0.0, 0.5, 0.0, 0.2, 0.7])
    some = TRANSFORMS[name].apply(x, strengths, generator(4))[0]
    for i, s in enumerate(strengths.tolist()):
        everywhere = TRANSFORMS[name].apply(x, s, generator(4))[0]
        torch.testing.assert_close(some[i], everywhere[i], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_one_gray_channel_stands_for_three(name: str) -> None:
    one = images()[:, :1]
    transform = TRANSFORMS[name]
    drawn = Drawn(transform, torch.full((6,), 0.6), torch.rand(6, transform.draws, generator=generator()))
    gray = paint_all(one, [drawn], fresh=False)
    color = paint_all(one.repeat(1, 3, 1, 1), [drawn], fresh=False)
    # Noise is the one that tells channels apart.
    torch.testing.assert_close(gray[:, 0], color[:, 0], atol=1e-5, rtol=0)


def test_noise_is_gaussian_and_independent() -> None:
    x = torch.full((4, 3, 64, 64), 0.5)
    z = (TRANSFORMS["noise"].apply(x, 0.25, generator())[0] - 0.5) / 0.1
    flat = z.flatten(1)
    assert float(flat.mean(1).abs().max()) < 0.03
    assert float((flat.std(1) - 1).abs().max()) < 0.03
    assert float((flat**4).mean() / 3) == pytest.approx(0.9, abs=0.05)  # four bytes: 3 - 1.2 / 4
    between = torch.corrcoef(torch.cat([flat, z.roll(1, 3).flatten(1), z.roll(1, 2).flatten(1)]))
    assert float((between - torch.eye(12)).abs().max()) < 0.04


def test_warp_is_the_same_as_affine_grid_and_knows_its_size() -> None:
    x = images(5, 50, 40)
    affine = identity(5) + 0.2 * torch.randn(5, 2, 3, generator=generator())
    for size in ((50, 40), (20, 30)):
        grid = torch.nn.functional.affine_grid(affine, [5, 3, *size], align_corners=False)
        theirs = torch.nn.functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        torch.testing.assert_close(warp(x, affine, size), theirs, atol=1e-4, rtol=0)


def test_strokes_of_tiny_images_are_not_smeared() -> None:
    stroke = torch.zeros(1, 3, 8, 8)
    stroke[:, :, :, 3] = 1
    third = identity(1)
    third[0, 0, 2] = 2 / 8 / 3  # a third of a pixel
    grid = torch.nn.functional.affine_grid(third, [1, 3, 8, 8], align_corners=False)
    bilinear = torch.nn.functional.grid_sample(stroke, grid, align_corners=False)
    assert float(bilinear.max()) == pytest.approx(2 / 3, abs=1e-4)
    assert float(warp(stroke, third).max()) > 0.75


def test_cutout_takes_as_much_as_it_says() -> None:
    x = images(40, 40, 40)
    changed = TRANSFORMS["cutout"].apply(x, 1.0, generator())[0]
    share = (changed != x).any(1).float().mean((1, 2))
    assert float((share - 0.75**2).abs().max()) < 0.06


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_strengths_out_of_range_are_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        TRANSFORMS["rotate"].apply(images(), strength, generator())


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="float"):
        TRANSFORMS["rotate"].apply(torch.zeros(2, 8, 8, 3), 0.5, generator())
    with pytest.raises(ValueError, match="float"):
        TRANSFORMS["rotate"].apply(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 0.5, generator())


def test_no_images() -> None:
    for transform in TRANSFORMS.values():
        assert transform.apply(torch.zeros(0, 3, 8, 8), 0.5, generator())[0].shape == (0, 3, 8, 8)
