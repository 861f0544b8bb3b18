"""Ready-made policies: weak and strong for joint training, pairs of views for learning from images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fallow.augment.policy import Draw, Policy, Window, within_one
from fallow.augment.transforms import COLOR_ONLY

DEFAULT_LIMITS: Mapping[str, float] = {
    "hflip": 1.0,
    "rotate": 30 / 180,
    "translate": 0.6,
    "shear": 0.3,
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 0.9,
    "sharpness": 1.0,
    "solarize": 1.0,
    "posterize": 4 / 7,
    "autocontrast": 1.0,
    "equalize": 1.0,
    "blur": 0.15,
    "hue": 0.1,
    "zoom": 0.3,
    "cutout": 2 / 3,
}
"""What photos bear where nothing was measured: the ranges of RandAugment (arXiv 1909.13719: 30 degrees, a slope of
0.3, 30 % of the side, factors 0.1 to 1.9, 4 bits), a little blur, hue and zoom, and FixMatch's holes of up to half
the side."""


def default_limits(gray: bool = False) -> dict[str, float]:
    """Return limits for images of which nothing was measured.

    Gray ones get nothing that only touches color. They are not mirrored, for they are often writing, and not
    solarized: what is white on black, inverted, is black on black.
    """
    left_out = COLOR_ONLY | {"hflip", "solarize"} if gray else frozenset()
    return {name: most for name, most in DEFAULT_LIMITS.items() if name not in left_out}


def weak_policy(
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    *,
    flips: Sequence[str] = ("hflip", "vflip"),
    gray: bool = False,
    size: tuple[int, int] | None = None,
) -> Policy:
    """Return FixMatch's weak policy (arXiv 2001.07685): flips, half of the time each, and a shift of up to 12.5 %.

    Args:
        limits: Transform -> greatest strength, as `furthest` or `limits_from` gives it; absent = not allowed.
        flips: Flips to use if they are allowed.
        gray: The images are gray.
        size: Size of the result.
    """
    draws = tuple(Draw({name: 1.0}, 0.5) for name in flips)
    return Policy("weak", draws, 0.125, size=size, gray=gray).capped(limits)


def strong_policy(
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    *,
    picks: int = 2,
    magnitude: float = 1.0,
    cutout: bool = True,
    flips: Sequence[str] = ("hflip", "vflip"),
    gray: bool = False,
    size: tuple[int, int] | None = None,
) -> Policy:
    """Return a policy of the RandAugment family on top of the weak one, then cutout (arXiv 1708.04552).

    Each image gets ``picks`` different transforms of those allowed, each at a strength drawn between 0 and its
    limit, as FixMatch does it (where the paper has one strength for all).

    Args:
        limits: Transform -> greatest strength, as `furthest` or `limits_from` gives it; absent = not allowed.
        picks: Transforms an image gets.
        magnitude: Share of the limits that is used, 0..1.
        cutout: Whether each image gets a hole of up to half of its side.
        flips: Flips to use if they are allowed.
        gray: The images are gray: transforms that only touch color are left out.
        size: Size of the result.
    """
    within_one("magnitude", magnitude)
    apart = {"hflip", "vflip", "cutout"} | (COLOR_ONLY if gray else frozenset())
    pool = {name: magnitude * most for name, most in limits.items() if name not in apart}
    holes = Draw({"cutout": magnitude * DEFAULT_LIMITS["cutout"]} if cutout else {})
    weak = weak_policy(limits, flips=flips, gray=gray, size=size)
    policy = replace(weak, name="strong", draws=(*weak.draws, Draw(pool, picks=picks), holes))
    return policy.capped(limits)


def resized_crop_policy(
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    *,
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
    jitter_share: float = 0.8,
    gray_share: float = 0.2,
    blur_share: float = 0.5,
    solarize_share: float = 0.0,
    flips: Sequence[str] = ("hflip",),
    name: str = "view",
    gray: bool = False,
    size: tuple[int, int] | None = None,
) -> Policy:
    """Return a view for representation learning, as SimCLR and its followers make it.

    Args:
        scale: Smallest and largest share of the area of the window.
        ratio: Smallest and largest width / height of the window.
        jitter: Brightness, contrast, saturation and hue as the papers give them: factors 1 -+ that much; hue in
            turns of the color circle.
        jitter_share: Share of the images whose colors are jittered.
        gray_share: Share of the images that become gray.
        blur_share: Share of the images that are blurred, by 0.1 to 2 px at 224 px, less on smaller ones.
        solarize_share: Share of the images whose brighter half is inverted.
        flips: Flips, half of the time each.
        name: Name of the policy.
        gray: The images are gray: what only touches color is left out.
        size: Size of the result.
    """
    brightness, contrast, saturation, hue = jitter
    colors = {
        "brightness": min(brightness / 0.8, 1.0),
        "contrast": min(contrast / 0.9, 1.0),
        "saturation": min(saturation, 1.0),
        "hue": min(2 * hue, 1.0),
    }
    draws = [
        *(Draw({flip: 1.0}, 0.5) for flip in flips),
        Draw({key: most for key, most in colors.items() if not (gray and key in COLOR_ONLY)}, jitter_share),
        Draw({} if gray else {"gray": 1.0}, gray_share, least=1.0),
        Draw({"blur": 2 / (224 / 24)}, blur_share, least=0.05),
        Draw({"solarize": 0.5}, solarize_share, least=1.0),
    ]
    kept = tuple(draw for draw in draws if draw.limits and draw.probability)
    return Policy(name, kept, window=Window(scale, ratio), size=size, gray=gray)


_MILD = (0.4, 0.4, 0.2, 0.1)
_RECIPES: dict[str, tuple[dict[str, Any], ...]] = {
    "simclr": ({"scale": (0.08, 1.0), "jitter": (0.8, 0.8, 0.8, 0.2)},) * 2,
    "moco": ({},) * 2,
    "byol": (
        {"scale": (0.08, 1.0), "jitter": _MILD, "blur_share": 1.0},
        {"scale": (0.08, 1.0), "jitter": _MILD, "blur_share": 0.1, "solarize_share": 0.2},
    ),
    "dino": (
        {"scale": (0.4, 1.0), "jitter": _MILD, "blur_share": 1.0},
        {"scale": (0.4, 1.0), "jitter": _MILD, "blur_share": 0.1, "solarize_share": 0.2},
        {"scale": (0.05, 0.4), "jitter": _MILD},
    ),
}
RECIPES = tuple(_RECIPES)
"""Papers whose views `paper_views` makes."""
SMALL_SIDE = 64
"""Side in pixels up to which views are those of the papers' CIFAR-10 experiments."""
_ON_SMALL: dict[str, dict[str, Any]] = {
    "simclr": {"jitter": (0.4, 0.4, 0.4, 0.1)},
    "byol": {"scale": (0.2, 1.0), "jitter": (0.4, 0.4, 0.4, 0.1), "solarize_share": 0.0},
}
"""SimCLR halves the strength of its colors there (app. B.9). 300 steps of 128 on 4,000 images, one development draw: nearest
neighbors 37.4 %, a probe 43.7; at full strength 34.9 and 41.2. BYOL has no such experiment: its views are then those of MoCo's and
SimSiam's (arXiv 2011.10566, app. D). 250 steps: VICReg 38.9 and 41.7 %, with BYOL's own 37.4 and 40.5; BYOL 34.2 and 37.9, 30.4 and 37.9."""


def paper_views(
    recipe: str,
    *,
    flips: Sequence[str] = ("hflip",),
    gray: bool = False,
    size: tuple[int, int] | None = None,
    local_size: tuple[int, int] | None = None,
    scale: tuple[float, float] | None = None,
) -> tuple[Policy, ...]:
    """Return the views of a paper, one policy each; for ``byol`` and ``dino`` they differ.

    Args:
        recipe: ``simclr`` (arXiv 2002.05709), ``moco`` (v2, 2003.04297), ``byol`` (2006.07733; Barlow Twins and
            VICReg use the same) or ``dino`` (2104.14294; its third policy is that of all local crops).
        flips: Flips, half of the time each.
        gray: The images are gray.
        size: Size of the views; up to 64 pixels they are not blurred (a Gaussian of 0.3 pixels changes nothing but the time,
            and the papers leave it out there), SimCLR's colors are half as strong, and ``byol`` is ``moco``.
        local_size: Size of local crops.
        scale: Smallest and largest share of the area of the windows. Default: the paper's.

    Raises:
        ValueError: The recipe is not known.
    """
    if recipe not in _RECIPES:
        raise ValueError(f"'{recipe}' is not a recipe of views; there are {', '.join(RECIPES)}")
    small = size is not None and max(size) <= SMALL_SIDE
    own = {"blur_share": 0.0, **_ON_SMALL.get(recipe, {})} if small else {}
    if scale is not None:
        own["scale"] = scale
    return tuple(
        resized_crop_policy(
            **{**options, **own},
            flips=flips,
            name=f"{recipe} {i + 1}",
            gray=gray,
            size=size if i < 2 else local_size,
        )
        for i, options in enumerate(_RECIPES[recipe])
    )
