from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from fallow.augment import (
    COLOR_ONLY,
    DEFAULT_LIMITS,
    RECIPES,
    TRANSFORMS,
    Draw,
    Policy,
    Window,
    default_limits,
    identity,
    paper_views,
    resized_crop_policy,
    strong_policy,
    warp,
    weak_policy,
)
from fallow.augment.transforms import apply_all


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 12, height: int = 40, width: int = 40) -> torch.Tensor:
    rough = torch.rand(n, 3, 6, 6, generator=generator(1))
    return torch.nn.functional.interpolate(rough, (height, width), mode="bicubic").clamp(0.02, 0.98)


EVERYTHING = Policy(
    "everything",
    (Draw(dict.fromkeys(TRANSFORMS, 0.7), 0.9, picks=8, least=0.1), Draw({"gray": 1.0}, 0.5, least=1.0)),
    shift=0.1,
    window=Window((0.3, 0.9), (0.7, 1.4)),
)
POLICIES = [
    Policy("nothing"),
    weak_policy(),
    strong_policy(),
    strong_policy(default_limits(gray=True), gray=True, picks=3, cutout=False),
    EVERYTHING,
    replace(EVERYTHING, size=(24, 30)),
    *(policy for recipe in RECIPES for policy in paper_views(recipe)),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("size", [(40, 40), (8, 8), (17, 31), (1, 1)])
def test_stays_in_range_and_repeats(policy: Policy, size: tuple[int, int]) -> None:
    x = images(7, *size)
    before = x.clone()
    first, affine = policy(x, generator(3))
    second, same = policy(x, generator(3))
    assert first.shape == (7, 3, *(policy.size or size))
    assert affine.shape == (7, 2, 3)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert torch.equal(first, second)
    assert torch.equal(affine, same)
    assert torch.equal(x, before), "the input must not be changed"


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_json_there_and_back(policy: Policy) -> None:
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


@pytest.mark.parametrize("policy", POLICIES[1:], ids=lambda policy: policy.name)
def test_another_seed_is_another_view_and_each_image_has_its_own(policy: Policy) -> None:
    x = images(1).expand(24, -1, -1, -1)
    view, _ = policy(x, generator(0))
    assert not torch.equal(view, policy(x, generator(1))[0])
    assert len({tuple(one.flatten()[::17].tolist()) for one in view}) > 18


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_the_affine_says_where_marked_pixels_went(policy: Policy) -> None:
    only_moves = replace(
        policy,
        draws=tuple(
            replace(draw, limits={k: v for k, v in draw.limits.items() if TRANSFORMS[k].kind == "geometric"})
            for draw in policy.draws
        ),
    )
    y, x = torch.meshgrid(*[(2 * torch.arange(60) + 1) / 60 - 1] * 2, indexing="ij")
    coordinates = (torch.stack([x, y, 0 * x]) / 4 + 0.5).expand(8, -1, -1, -1)
    if policy.gray:
        return
    view, affine = only_moves(coordinates, generator(4))
    height, width = view.shape[2:]
    at = torch.stack(
        torch.meshgrid(
            (2 * torch.arange(width) + 1) / width - 1,
            (2 * torch.arange(height) + 1) / height - 1,
            indexing="xy",
        )
    ).flatten(1)
    source = affine[:, :, :2] @ at + affine[:, :, 2:]
    found = 4 * (view[:, :2].flatten(2) - 0.5)
    inside = (source.abs() < 0.95).all(1, keepdim=True).expand_as(found)
    assert float(inside.float().mean()) > 0.3
    torch.testing.assert_close(found[inside], source[inside], atol=2e-3, rtol=0)


def test_dense_targets_follow_by_the_affine() -> None:
    x = images(9)
    moves = Policy("moves", (Draw({"rotate": 0.3, "zoom": 0.2, "hflip": 1.0}),), shift=0.1)
    view, affine = moves(x, generator())
    torch.testing.assert_close(warp(x, affine), view)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("picks", [0, 1, 3, 99])
def test_each_image_gets_as_many_picks_as_asked_and_never_beyond_a_limit(seed: int, picks: int) -> None:
    limits = {"rotate": 0.2, "hue": 0.05, "blur": 0.7, "solarize": 1.0, "hflip": 1.0}
    drawn = Draw(limits, picks=picks).draw(200, generator(seed))
    strengths = torch.stack([one.strengths for one in drawn], 1)
    assert {one.transform.name for one in drawn} == set(limits)
    assert bool(((strengths > 0).sum(1) == min(picks, len(limits))).all())
    for one in drawn:
        assert float(one.strengths.max()) <= limits[one.transform.name]
        if picks >= 1 and one.transform.graded:
            assert float(one.strengths.max()) > 0.6 * limits[one.transform.name]


def test_shares_and_least_strengths() -> None:
    drawn = Draw({"blur": 0.8, "hue": 0.4}, probability=0.3, least=0.5).draw(4000, generator())
    for one in drawn:
        hit = one.strengths > 0
        assert float(hit.float().mean()) == pytest.approx(0.3, abs=0.03)
        assert float(one.strengths[hit].min()) >= 0.5 * (0.8 if one.transform.name == "blur" else 0.4)
    assert torch.equal(drawn[0].strengths > 0, drawn[1].strengths > 0), "they come together"


def test_an_image_does_not_depend_on_its_neighbors() -> None:
    x = images()
    other = torch.cat([x[:4], torch.rand(8, 3, 40, 40, generator=generator(7))])
    for policy in POLICIES:
        torch.testing.assert_close(
            policy(x, generator(2))[0][:4], policy(other, generator(2))[0][:4], atol=1e-6, rtol=0
        )


def test_what_an_image_did_not_draw_is_not_done_to_it() -> None:
    x = images(64)
    half = Policy("half", (Draw({"hue": 1.0, "noise": 1.0, "rotate": 0.2}, 0.5, least=0.5),))
    view, affine = half(x, generator())
    still = (affine == identity(1)).flatten(1).all(1)
    assert 16 < int(still.sum()) < 48
    assert torch.equal(view[still], x[still])
    assert bool(((view - x).abs().mean((1, 2, 3)) > 0.01)[~still].all())


def test_shifts_are_whole_pixels_and_mirrors_exact() -> None:
    x = torch.rand(40, 3, 28, 28, generator=generator(5))
    view, affine = weak_policy()(x, generator())
    seen = set()
    for one, source, a in zip(view, x, affine, strict=True):
        dx, dy = (14 * a[0, 2]).item(), (14 * a[1, 2]).item()
        dx, dy = round(dx), round(dy)
        assert max(abs(dx), abs(dy)) <= 3  # 12.5 % of 28
        straight = source.flip(2) if a[0, 0] < 0 else source
        dx = -dx if a[0, 0] < 0 else dx
        inner = one[:, max(0, -dy) : 28 - max(0, dy), max(0, -dx) : 28 - max(0, dx)]
        there = straight[:, max(0, dy) : 28 - max(0, -dy), max(0, dx) : 28 - max(0, -dx)]
        assert torch.equal(inner, there)
        seen.add((dx, dy, a[0, 0].item()))
    assert len(seen) > 25


def test_nothing_is_done_where_nothing_is_allowed() -> None:
    x = images()
    for policy in (weak_policy({}), strong_policy({}, gray=False), EVERYTHING.capped({})):
        assert policy(x, generator())[0] is x
        assert policy.describe() == "nothing"


def test_limits_cap_what_policies_do() -> None:
    limits = {"rotate": 0.05, "translate": 0.1, "cutout": 0.2, "hflip": 1.0, "crop": 0.2}
    strong = strong_policy(limits)
    assert strong.shift == pytest.approx(0.05), "a strength of 0.1 is 5 % of the side"
    assert strong.capped(limits) == strong
    names = {name for draw in strong.draws for name in draw.limits}
    assert names == set(limits)
    assert "vflip" not in weak_policy(DEFAULT_LIMITS).describe()
    assert "vflip" in weak_policy({**DEFAULT_LIMITS, "vflip": 1.0}).describe()
    window = EVERYTHING.capped(limits).window
    assert window is not None
    assert window.scale == pytest.approx((0.85**2, 0.9))


def test_magnitude_scales_all_strengths() -> None:
    half = strong_policy(magnitude=0.5, cutout=False).draws[-1].limits
    full = strong_policy(cutout=False).draws[-1].limits
    assert {name: 2 * s for name, s in half.items()} == pytest.approx(dict(full))
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="magnitude"):
            strong_policy(magnitude=wrong)


def test_gray_images_get_nothing_that_only_touches_color() -> None:
    x = images()[:, :1].repeat(1, 3, 1, 1)
    limits = dict.fromkeys(sorted(TRANSFORMS.keys() - {"noise"}), 0.6)
    for policy in (strong_policy(limits, gray=True), *paper_views("byol", gray=True)):
        assert not COLOR_ONLY & {name for draw in policy.draws for name in draw.limits}
        view, affine = policy(x, generator())
        assert torch.equal(view[:, 0], view[:, 2])
        color, same = replace(policy, gray=False)(x, generator())
        torch.testing.assert_close(view, color, atol=1e-5, rtol=0)
        assert torch.equal(affine, same)
    assert not COLOR_ONLY & set(default_limits(gray=True))


def test_default_strengths_are_those_of_randaugment() -> None:
    x = images(400)
    affine = apply_all(x, [(TRANSFORMS["rotate"], DEFAULT_LIMITS["rotate"])], generator())[1]
    assert float(affine[:, 0, 0].acos().max()) == pytest.approx(math.radians(30), rel=1e-3)
    affine = apply_all(x, [(TRANSFORMS["shear"], DEFAULT_LIMITS["shear"])], generator())[1]
    assert float(affine[:, 0, 1].abs().max()) == pytest.approx(0.3)
    affine = apply_all(x, [(TRANSFORMS["translate"], DEFAULT_LIMITS["translate"])], generator())[1]
    assert float(affine[:, 0, 2].abs().max() / 2) == pytest.approx(0.3, rel=1e-2)
    levels = apply_all(x, [(TRANSFORMS["posterize"], DEFAULT_LIMITS["posterize"])], generator())[0].unique()
    assert len(levels) == 16, "4 bits"


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 60)])
def test_windows_have_the_areas_and_shapes_asked_for(height: int, width: int) -> None:
    policy = resized_crop_policy((0.1, 0.6), (0.5, 2.0), flips=())
    affine = policy(images(1, height, width).expand(2000, -1, -1, -1), generator())[1]
    sides = affine[:, [0, 1], [0, 1]]
    assert float(sides.max()) <= 1
    assert bool(((affine[:, :, 2].abs() + sides) <= 1 + 1e-6).all()), "windows lie inside"
    area = sides.prod(1)
    shape = sides[:, 0] * width / (sides[:, 1] * height)
    trimmed = (sides > 1 - 1e-6).any(1)  # none of the windows drawn for it fitted
    assert float(trimmed.float().mean()) < 0.02
    assert float(area.min()) >= 0.1
    assert float(area.max()) <= 0.6
    assert 0.5 - 1e-4 <= float(shape[~trimmed].min()) < 0.55
    assert 1.8 < float(shape[~trimmed].max()) <= 2 + 1e-4
    assert float(area.mean()) == pytest.approx(0.35, abs=0.04)


def test_views_of_papers() -> None:
    for recipe in RECIPES:
        policies = paper_views(recipe, size=(32, 32), local_size=(16, 16))
        assert [p.size for p in policies] == [(32, 32), (32, 32), (16, 16)][: len(policies)]
    first, second = paper_views("byol")
    assert "solarize" not in first.describe()
    assert "solarize" in second.describe()
    assert paper_views("simclr")[0].draws == paper_views("simclr")[1].draws
    with pytest.raises(ValueError, match="barlow"):
        paper_views("barlow")


@pytest.mark.parametrize("recipe", RECIPES)
def test_small_images_are_not_blurred_and_others_are(recipe: str) -> None:
    said = [
        [policy.describe() for policy in paper_views(recipe, size=(side, side), local_size=(side // 2,) * 2)]
        for side in (64, 65)
    ]
    assert all("blur" not in one for one in said[0])
    assert all("blur" in one for one in said[1])


def test_simclr_halves_its_colors_on_small_images_and_windows_can_be_given() -> None:
    small, large = (paper_views("simclr", size=(side, side))[0] for side in (32, 224))
    halved = resized_crop_policy((0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), blur_share=0.0)
    assert small.draws == halved.draws
    whole = resized_crop_policy((0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2))
    assert large.draws == whole.draws
    given = paper_views("simclr", size=(32, 32), scale=(0.3, 0.5))[0]
    assert given.window is not None
    assert given.window.scale == (0.3, 0.5)


def test_described_in_words() -> None:
    said = strong_policy().describe()
    for words in ("12.5 % of the side", "hflip", "2 of:", "rotate by 30 degrees", "cutout of 50 %"):
        assert words in said
    assert "50 % of the images" in weak_policy().describe()


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="swirl"):
        Draw({"swirl": 0.5})
    with pytest.raises(ValueError, match="hue"):
        Draw({"hue": 1.5})
    with pytest.raises(ValueError, match="probability"):
        Draw({}, probability=2)
    with pytest.raises(ValueError, match="picks"):
        Draw({}, picks=-1)
    with pytest.raises(ValueError, match="scale"):
        Window((0.5, 0.2))
    with pytest.raises(ValueError, match="ratio"):
        Window(ratio=(0.0, 1.0))
    with pytest.raises(ValueError, match="float"):
        weak_policy()(torch.zeros(2, 8, 8, 3), generator())


def test_no_images() -> None:
    for policy in POLICIES:
        view, affine = policy(torch.zeros(0, 3, 16, 16), generator())
        assert view.shape == (0, 3, *(policy.size or (16, 16)))
        assert affine.shape == (0, 2, 3)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_nothing_is_read_back_from_the_device_and_all_draws_are_made_beside_it(policy: Policy) -> None:
    here, there = generator(3), generator(3)
    x = images()
    policy(x, here)
    # A meta tensor has no values: whoever asks for one, or waits for the device, fails.
    view, affine = policy(x.to("meta"), there)
    assert view.shape == (12, 3, *(policy.size or (40, 40)))
    assert view.device.type == affine.device.type == "meta"
    assert torch.equal(here.get_state(), there.get_state())


@pytest.mark.gpu
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_gpu_makes_the_same_views_and_never_waits(policy: Policy) -> None:
    x = images()
    there = x.cuda()
    policy(there, generator())
    torch.cuda.set_sync_debug_mode("error")
    try:
        view, affine = policy(there, generator(3))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    here, same = policy(x, generator(3))
    torch.testing.assert_close(affine.cpu(), same)
    assert float(((view.cpu() - here).abs() > 1e-3).float().mean()) < 0.01, "but for levels on an edge"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_kept(dtype: torch.dtype) -> None:
    x = images().to(dtype)
    for policy in POLICIES:
        view, _ = policy(x, generator())
        assert view.dtype == dtype
        here = policy(x.float(), generator())[0]
        assert float((view.float() - here).abs().mean()) < 0.02
