"""What may change in an image: batched transforms on any device, how far each may go, and policies of them."""

from fallow.augment.mixing import cutmix, mixup, one_hot
from fallow.augment.policy import Draw, Policy, Window
from fallow.augment.presets import (
    DEFAULT_LIMITS,
    RECIPES,
    SMALL_SIDE,
    default_limits,
    paper_views,
    resized_crop_policy,
    strong_policy,
    weak_policy,
)
from fallow.augment.reach import STANDARD, STRENGTHS, ReachRow, furthest, limits_from, measure_reach
from fallow.augment.transforms import COLOR_ONLY, TRANSFORMS, Transform, apply_all, compose, identity, warp

__all__ = [
    "COLOR_ONLY",
    "DEFAULT_LIMITS",
    "RECIPES",
    "SMALL_SIDE",
    "STANDARD",
    "STRENGTHS",
    "TRANSFORMS",
    "Draw",
    "Policy",
    "ReachRow",
    "Transform",
    "Window",
    "apply_all",
    "compose",
    "cutmix",
    "default_limits",
    "furthest",
    "identity",
    "limits_from",
    "measure_reach",
    "mixup",
    "one_hot",
    "paper_views",
    "resized_crop_policy",
    "strong_policy",
    "warp",
    "weak_policy",
]
