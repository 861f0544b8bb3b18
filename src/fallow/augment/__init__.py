"""What may change in an image: batched transforms on any device, and how far each may go."""

from fallow.augment.reach import STANDARD, STRENGTHS, ReachRow, furthest, measure_reach
from fallow.augment.transforms import TRANSFORMS, Transform, apply_all, compose, identity, warp

__all__ = [
    "STANDARD",
    "STRENGTHS",
    "TRANSFORMS",
    "ReachRow",
    "Transform",
    "apply_all",
    "compose",
    "furthest",
    "identity",
    "measure_reach",
    "warp",
]
