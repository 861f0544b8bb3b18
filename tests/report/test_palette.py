"""The map's colors must be told apart with any color vision, on light and on dark paper."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from fallow.report.cluster_map import COLORS

STYLE = (files("fallow.report") / "templates" / "style.css").read_text(encoding="utf-8")
# Machado, Oliveira and Fernandes (2009), full severity, on linear RGB.
VISION = {
    "usual": np.eye(3),
    "protan": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deutan": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritan": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def palettes() -> list[dict[str, np.ndarray]]:
    light, dark = re.findall(r":root\{(.*?)\}", STYLE, re.DOTALL)
    return [
        {name: linear(code) for name, code in re.findall(r"--(\w+):(#\w+)", part)} for part in (light, dark)
    ]


def linear(code: str) -> np.ndarray:
    digits = code[1:] if len(code) == 7 else "".join(2 * c for c in code[1:])
    value = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    lms = np.cbrt(
        np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
        @ np.clip(rgb, 0, 1)
    )
    return np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]) @ lms


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    light, dark = sorted((float(c @ [0.2126, 0.7152, 0.0722]) for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_colors_are_told_apart(mode: int, vision: str) -> None:
    colors = [palettes()[mode][f"k{i}"] for i in range(COLORS)]
    seen = [oklab(VISION[vision] @ color) for color in colors]
    # 0.02 is just noticeable side by side; small dots apart from one another need several times that.
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 0.075


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_words_and_dots_stand_out(mode: int) -> None:
    colors = palettes()[mode]
    for paper in (colors["paper"], colors["sheet"], colors["faint"]):
        for words in ("ink", "soft", "accent", "warn"):
            assert contrast(colors[words], paper) >= 4.5, words
    for i in range(COLORS):
        assert contrast(colors[f"k{i}"], colors["paper"]) >= 2.4
    for numbers in ("reach", "tress"):
        assert contrast(colors[numbers], colors["faint"]) >= 3.5
