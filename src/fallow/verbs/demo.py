"""``fallow demo``: real digits, two labels a class, under two minutes, no network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from fallow.verbs.result import Result

LABELS_PER_CLASS = 2
_TEST_SHARE = 0.2


def write_digits(folder: Path, *, labels_per_class: int = LABELS_PER_CLASS, seed: int = 0) -> None:
    """Write scikit-learn's 1,797 handwritten digits as PNG files for a few-labels experiment.

    ``train/<digit>/`` holds ``labels_per_class`` images each, ``test/<digit>/`` a fifth of all images, ``unlabeled/``
    the rest under names that give nothing away.

    Args:
        folder: Where to write; made when missing.
        labels_per_class: Labeled images a class.
        seed: Which images are labeled and which are tested.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    rng = np.random.default_rng(seed)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(digits.target == digit))
        tested = round(len(members) * _TEST_SHARE)
        for position, index in enumerate(members):
            if position < tested:
                place = folder / "test" / str(digit)
            elif position < tested + labels_per_class:
                place = folder / "train" / str(digit)
            else:
                place = folder / "unlabeled"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(place / f"{index:04d}.png")


def _is_demo(run: Path) -> bool:
    try:
        request = json.loads((run / "request.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return str(request.get("data", "")).startswith(str(run.parent / f"{run.name}-data"))


def demo(
    out: Annotated[Path, Parameter(help="Folder for the run.", name="--out", metavar="FOLDER")] = Path(
        "runs/demo"
    ),
    *,
    seed: Annotated[int, Parameter(help="Seed of the draw of labels and of the run.", metavar="N")] = 0,
    budget: Annotated[str, Parameter(help="Wall clock for the run: 90s, 2m.", metavar="TIME")] = "2m",
) -> Result:
    """Train on 1,797 real digits of which 20 are labeled, in under two minutes, without a network or a GPU.

    The images are written to `<out>-data`, so that you can look at them and at how a data set is laid out.

    Raises:
        ConfigError: ``seed`` or ``budget`` cannot be used.
        RunError: ``out`` is not empty, or cannot be written.
    """
    from fallow.config import TrainConfig, build
    from fallow.errors import RunError
    from fallow.verbs.train import train

    build(TrainConfig, {"seed": seed, "budget": budget, "out": out}, "the options")
    data = out.parent / f"{out.name}-data" / f"seed-{seed}"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not _is_demo(out):
            raise RunError(f"the output folder '{out}' is not empty: remove it or choose another with --out")
        shutil.rmtree(out)  # the demo's own earlier run
    if not data.exists():
        part = data.with_name(f".{data.name}.part")  # stopped half way, it must not pass for the whole
        try:
            shutil.rmtree(part, ignore_errors=True)
            write_digits(part, seed=seed)
            part.rename(data)
        except OSError as error:
            raise RunError(
                f"the digits cannot be written to '{data}' ({error.strerror or error}): choose another place with --out"
            ) from error
    return train(str(data), out=out, budget=budget, seed=seed, offline=True, from_process_start=True)
