"""Few-labels experiments out of data sets whose every label is known: who is labeled, pool and test, by seed.

The same draws for everybody who compares: a *final* test split that never changes (reported once, seeds 100-109), and a
*dev* split drawn out of the rest by the seed (developed on, seeds 0-9), in which no final test image appears at all.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = {".jpg", ".jpeg", ".png"}
TEST_FRACTION = 0.2


RESULTS = Path(__file__).parent / "results"


def read_rows(name: str) -> list[dict[str, Any]]:
    """Return the finished cells in ``results/<name>.jsonl``."""
    path = RESULTS / f"{name}.jsonl"
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    )


def suite_parser(doc: str | None, suites: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark of cells can be told."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=suites)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", help="first-last; default: the suite's own")
    parser.add_argument("--only", help="data set(s), comma separated")
    return parser


def seeds_of(asked: str | None, default: range) -> range:
    """Return the seeds from first to last, or the default."""
    if not asked:
        return default
    first, _, last = asked.partition("-")
    return range(int(first), int(last or first) + 1)


@dataclass(frozen=True)
class Known:
    """A data set with all labels: class -> files, and a ready-made final test split where there is one."""

    name: str
    files: dict[str, list[Path]]
    test: dict[str, list[Path]] | None = None


@dataclass(frozen=True)
class Draw:
    """One experiment: lists of (file, class); the class of a pool image is for nobody's eyes."""

    labeled: list[tuple[Path, str]]
    pool: list[tuple[Path, str]]
    test: list[tuple[Path, str]]

    def write_csv(self, path: Path) -> None:
        """Write the draw as a list that `fallow train` reads: pool images without their class."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["path", "label", "split"])
            lines.writerows([f, c, "train"] for f, c in self.labeled)
            lines.writerows([f, "", "unlabeled"] for f, _ in self.pool)
            lines.writerows([f, c, "test"] for f, c in self.test)


def class_folders(root: Path) -> dict[str, list[Path]]:
    """Return class -> files of a folder of class folders."""
    found = {}
    for folder in sorted(d for d in root.iterdir() if d.is_dir()):
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        if files:
            found[folder.name] = files
    return found


def write_digits(root: Path) -> dict[str, list[Path]]:
    """Write scikit-learn's 1,797 digits as class folders of PNG files, once."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for index, (image, label) in enumerate(zip(images, digits.target, strict=True)):
        path = root / str(label) / f"{index:04d}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return class_folders(root)


FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts the images."""
FASHION_COUNTS = {"train": 1200, "test": 200}
"""Images a class that are used of its two splits: what a CPU can train on in minutes."""


def write_fashion(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Write the first images a class of Fashion-MNIST as class folders of PNG files, once."""
    import gzip

    from PIL import Image

    if not FASHION.is_dir():
        raise SystemExit(f"there is no folder '{FASHION}': apt install dataset-fashion-mnist")
    for split, prefix in (("train", "train"), ("test", "t10k")):
        files = (FASHION / f"{prefix}-images-idx3-ubyte.gz", FASHION / f"{prefix}-labels-idx1-ubyte.gz")
        images, labels = (
            np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=offset)
            for file, offset in zip(files, (16, 8), strict=True)
        )
        for label in range(10):
            for index in np.flatnonzero(labels == label)[: FASHION_COUNTS[split]]:
                path = root / split / str(label) / f"{index:05d}.png"
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(images.reshape(-1, 28, 28)[index]).save(path)
    return class_folders(root / "train"), class_folders(root / "test")


def load(name: str, data: Path) -> Known:
    """Load a data set by name from the folder that holds all of them.

    ``digits`` is made from scikit-learn, ``fashion`` from Debian's ``dataset-fashion-mnist``; ``ucmerced``, ``clothing`` and ``cifar10`` are class folders, the last two
    with a given test split: ``<data>/ucmerced/<class>``, ``<data>/clothing/{train,test}/<class>``,
    ``<data>/cifar10/{train,test}/<class>``.
    """
    if name == "digits":
        return Known(name, write_digits(data / "digits"))
    if name == "fashion":
        return Known(name, *write_fashion(data / "fashion"))
    root = data / name
    if not root.is_dir():
        raise SystemExit(f"there is no folder '{root}': see benchmarks/README.md for what goes where")
    if (root / "train").is_dir():
        return Known(name, class_folders(root / "train"), class_folders(root / "test"))
    return Known(name, class_folders(root))


def draw(
    data: Known,
    per_class: int,
    seed: int,
    split: str,
    *,
    imbalance: float = 1.0,
    pool: int | None = None,
    foreign: Known | None = None,
    foreign_fraction: float = 0.0,
) -> Draw:
    """Draw one experiment.

    Args:
        data: All images and labels.
        per_class: Labeled images a class.
        seed: Which are labeled, in what order classes shrink, and (dev) which are tested.
        split: ``final`` or ``dev``.
        imbalance: Class sizes of pool and test fall geometrically so that largest : smallest is this.
        pool: At most so many unlabeled images.
        foreign: Images of no class, mixed into the pool.
        foreign_fraction: Their share of the pool.
    """
    classes = list(data.files)
    order = random.Random(f"order/{seed}").sample(range(len(classes)), len(classes))
    keep = {c: imbalance ** (-order[i] / max(len(classes) - 1, 1)) for i, c in enumerate(classes)}
    labeled: list[tuple[Path, str]] = []
    rest_of: list[tuple[Path, str]] = []
    tested: list[tuple[Path, str]] = []
    for name, files in data.files.items():
        shuffled = list(files)
        random.Random(f"test/{name}").shuffle(shuffled)
        cut = 0 if data.test else round(len(shuffled) * TEST_FRACTION)
        final = data.test[name] if data.test else shuffled[:cut]
        rest = shuffled[cut:]
        random.Random(f"{seed}/{name}").shuffle(rest)
        if split == "dev":
            n = round(len(rest) * TEST_FRACTION)
            test, rest = rest[:n], rest[n:]
        else:
            test = list(final)
        test = test[: max(1, round(len(test) * keep[name]))]
        mine, rest = rest[:per_class], rest[per_class:]
        labeled += [(f, name) for f in mine]
        rest_of += [(f, name) for f in rest[: round(len(rest) * keep[name])]]
        tested += [(f, name) for f in test]
    random.Random(f"pool/{seed}").shuffle(rest_of)
    unlabeled = rest_of[:pool]
    if foreign is not None and foreign_fraction > 0:
        others = sorted(f for files in foreign.files.values() for f in files)
        random.Random(f"foreign/{seed}").shuffle(others)
        count = round(len(unlabeled) * foreign_fraction / (1 - foreign_fraction))
        unlabeled = unlabeled + [(f, "") for f in others[:count]]
    return Draw(labeled, unlabeled, tested)
