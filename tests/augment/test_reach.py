from __future__ import annotations

import zlib
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from fallow.augment import STANDARD, TRANSFORMS, ReachRow, furthest, limits_from, measure_reach

_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def colors(n: int = 72) -> tuple[torch.Tensor, np.ndarray]:
    """Return images of one pale color each, evenly around the color circle, and their angles in degrees."""
    angle = 360 * (np.arange(n) + 0.5) / n
    yiq = np.stack([np.full(n, 0.5), 0.1 * np.cos(np.radians(angle)), 0.1 * np.sin(np.radians(angle))])
    rgb = torch.tensor((np.linalg.inv(_YIQ) @ yiq).T, dtype=torch.float32)
    return rgb[:, :, None, None].repeat(1, 1, 4, 4), angle


def chroma(x: torch.Tensor) -> np.ndarray:
    return (x.mean((2, 3)).double().numpy() @ _YIQ.T)[:, 1:].astype(np.float32)


def digits(*wanted: int) -> tuple[torch.Tensor, np.ndarray]:
    data = load_digits()
    keep = np.isin(data.target, wanted)
    x = torch.tensor(data.images[keep] / 16, dtype=torch.float32)[:, None].repeat(1, 3, 1, 1)
    return x, data.target[keep]


def pixels(x: torch.Tensor) -> np.ndarray:
    return x.mean(1).flatten(1).numpy()


def rows_of(x: torch.Tensor, y: np.ndarray, embed, **options) -> dict[tuple[str, float], ReachRow]:
    rows = measure_reach(x, y, embed, embed(x), y, **options)
    return {(row.transform, row.strength): row for row in rows}


def test_known_geometry_on_the_color_circle() -> None:
    x, angle = colors()
    halves = (angle // 180).astype(int)
    opposite = (angle // 90).astype(int) % 2  # opposite quarters are one class
    turn = partial(rows_of, x, embed=chroma, transforms=["hue"], strengths=(0.005, 0.5, 1.0))

    far = turn(y=halves)
    assert far["hue", 1.0].trespass > 0.95, "half a circle away everything is the other half"
    assert far["hue", 1.0].reach == 0

    here = turn(y=opposite)
    assert here["hue", 1.0].reach == 1.0, "half a circle away is another image of the same class"
    assert here["hue", 1.0].trespass == 0
    assert here["hue", 0.5].trespass > 0.95
    near = here["hue", 0.005]  # 0.9 degrees, and the next color is 5 away
    assert near.reach == 0
    assert near.trespass < 0.05, "only at the border"
    assert near.moved == pytest.approx(0.9 / 5, rel=0.02)


def test_digits_tell_what_may_be_done_to_them() -> None:
    upside = rows_of(*digits(6, 9), pixels, transforms=["rotate"], strengths=(1.0,))["rotate", 1.0]
    round_ones = rows_of(*digits(0, 8), pixels, transforms=["rotate"], strengths=(1.0,))["rotate", 1.0]
    assert upside.trespass > 0.6, "a six upside down is a nine"
    assert round_ones.trespass < 0.05
    assert round_ones.reach > 0.7
    mirrored = rows_of(*digits(2, 5), pixels, transforms=["hflip"])["hflip", 1.0]
    both = rows_of(*digits(0, 8), pixels, transforms=["hflip"])["hflip", 1.0]
    assert mirrored.trespass > 2 * both.trespass + 0.1


def test_agrees_with_the_definition_written_out() -> None:
    x, y = digits(1, 4, 7)
    some = np.arange(0, len(x), 9)
    reference = pixels(x)
    row = measure_reach(
        x[some], y[some], pixels, reference, y, own=some, transforms=["crop"], strengths=(0.3,), seed=4
    )[0]
    generator = torch.Generator().manual_seed(zlib.crc32(b"4/crop/0.3"))
    noised = pixels(TRANSFORMS["crop"].apply(x[some], 0.3, generator)[0])

    def unit(v: np.ndarray) -> np.ndarray:
        return v / np.linalg.norm(v)

    outcome: list[str] = []
    for i, z in zip(some, noised, strict=True):
        others = [j for j in range(len(x)) if j != i]

        def vote(v: np.ndarray, others: list[int] = others) -> int:
            near = sorted(others, key=lambda j: -float(unit(v) @ unit(reference[j])))[:5]
            counts = Counter(y[j] for j in near)
            return next(y[j] for j in near if counts[y[j]] == max(counts.values()))

        if vote(reference[i]) != y[i]:
            continue
        mate = max(float(unit(z) @ unit(reference[j])) for j in others if y[j] == y[i])
        if vote(z) != y[i]:
            outcome.append("trespass")
        else:
            outcome.append("reach" if mate >= float(unit(z) @ unit(reference[i])) else "stay")
    assert row.n == len(outcome)
    assert row.trespass == pytest.approx(outcome.count("trespass") / len(outcome))
    assert row.reach == pytest.approx(outcome.count("reach") / len(outcome))


def test_rows_do_not_depend_on_one_another_and_repeat() -> None:
    x, y = digits(0, 1, 2)
    all_rows = rows_of(x, y, pixels)
    one = rows_of(x, y, pixels, transforms=["cutout"], strengths=(0.6,))
    assert all_rows["cutout", 0.6] == one["cutout", 0.6]
    assert all_rows == rows_of(x, y, pixels)
    for row in all_rows.values():
        assert 0 <= row.reach + row.trespass <= 1


def test_gray_images_are_not_tried_in_color_and_flips_once() -> None:
    x, y = digits(0, 1)
    names = [row.transform for row in measure_reach(x, y, pixels, pixels(x), y)]
    assert set(names) == set(STANDARD) - {"hue", "gray"}
    assert names.count("hflip") == 1
    assert names.count("rotate") == 4


def test_uint8_is_the_same_as_float() -> None:
    x, y = digits(3, 8)
    stepped = (x * 255).round()
    either = [
        measure_reach(images, y, pixels, pixels(stepped / 255), y, transforms=["crop"])
        for images in (stepped / 255, stepped.to(torch.uint8))
    ]
    assert either[0] == either[1]


def test_time_is_kept() -> None:
    x, y = digits(0, 1)
    assert measure_reach(x, y, pixels, pixels(x), y, seconds=0.0) == []
    done: list[tuple[str, int, int]] = []
    measure_reach(x, y, pixels, pixels(x), y, transforms=["hflip"], progress=lambda *said: done.append(said))
    assert done[-1] == ("reach without trespass", 1, 1)


def test_nothing_to_judge() -> None:
    x, _ = digits(0)
    alone = np.arange(len(x))  # each image a class of its own
    assert measure_reach(x, alone, pixels, pixels(x), alone) == []
    assert measure_reach(x[:0], [], pixels, pixels(x), alone) == []


def test_constant_images_and_large_references_do_no_harm() -> None:
    x = torch.zeros(8, 3, 8, 8)
    y = np.arange(8) % 2
    assert measure_reach(x, y, pixels, pixels(x), y, transforms=["crop"]) is not None
    many, classes = digits(0, 1)
    reference = np.concatenate([pixels(many)] * 20)
    rows = measure_reach(many[:9], classes[:9], pixels, reference, np.tile(classes, 20), transforms=["vflip"])
    assert rows[0].n > 0


def test_mistakes_are_named() -> None:
    x, y = digits(0, 1)
    with pytest.raises(ValueError, match="swirl"):
        measure_reach(x, y, pixels, pixels(x), y, transforms=["swirl"])
    with pytest.raises(ValueError, match="should be"):
        measure_reach(x, y[:-1], pixels, pixels(x), y)


def test_furthest_stops_at_the_first_trespass() -> None:
    rows = [
        ReachRow("crop", 0.1, 0.1, 0.0, 50),
        ReachRow("crop", 0.3, 0.3, 0.1, 50),
        ReachRow("crop", 0.6, 0.3, 0.3, 50),
        ReachRow("crop", 1.0, 0.3, 0.05, 50),
        ReachRow("hflip", 1.0, 0.2, 0.6, 50),
    ]
    assert furthest(rows) == {"crop": 0.3}
    assert furthest(rows, 0.6) == {"crop": 1.0, "hflip": 1.0}


def test_what_was_measured_goes_before_defaults() -> None:
    rows = [
        ReachRow("crop", 0.3, 0.3, 0.05, 50),
        ReachRow("crop", 0.6, 0.3, 0.3, 50),
        ReachRow("rotate", 0.1, 0.1, 0.0, 50),
        ReachRow("rotate", 1.0, 0.1, 0.1, 50),
        ReachRow("hflip", 1.0, 0.2, 0.6, 50),
    ]
    defaults = {"crop": 0.5, "rotate": 1 / 6, "hflip": 1.0, "shear": 0.3}
    assert limits_from(rows, defaults) == {"crop": 0.3, "rotate": 1.0, "shear": 0.3}
    assert limits_from(iter(rows), defaults, 0.0) == {"rotate": 0.1, "shear": 0.3}
    assert limits_from([], defaults) == defaults
