"""Learning from images alone on a small budget: every method, the same network, batch and steps, judged by nearest neighbors.

    python benchmarks/pretrain.py dev --data .data [--seconds 180 | --steps 600] [--methods simclr,byol] [--seeds 0-2]

4,000 CIFAR-10 images (400 a class) at 32 pixels are learned from without their labels by the small network of
``small_resnet_32``, for the same seconds (or steps) by each method. Nearest neighbors among the 4,000 then name images that
nobody learned from: of the dev split (seeds 0-9), or of the final test split (seeds 100-109). Beside them stand the bare pixels
and the network with the random weights that all start from, and where asked for (``--methods "lightly simclr,lightly barlow_twins"``)
LightlySSL on the same network, images, batch and seconds (`lightly_loop.py`). Cells that are in ``results/pretrain.jsonl`` are not done again.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from protocol import RESULTS, Draw, draw, load, read_rows, seeds_of, suite_parser

NAME = "pretrain"
SIZE, PER_CLASS, TESTED = 32, 400, 2000
BESIDE = "lightly "
"""What the names of LightlySSL's methods begin with."""
TEACHER, TEACHER_SIZE = "tf_efficientnet_lite0", 96
"""What methods with a teacher learn from: the pretrained network of all defaults, at its size for images of 32 pixels."""
SEEDS = {"dev": range(1), "final": range(100, 103)}


def images_of(rows: list[tuple[Path, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (n, 32, 32, 3) and classes."""
    from fallow.models import Preprocess

    resize = Preprocess(SIZE).resize
    classes = sorted({c for _, c in rows})
    pixels = np.stack([resize(np.asarray(Image.open(f).convert("RGB"))) for f, _ in rows])
    return pixels, np.array([classes.index(c) for _, c in rows])


def judged(bank: np.ndarray, y: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return what nearest neighbors and a linear probe on the bank's labels say of the queries."""
    from fallow.models import fit_logistic
    from fallow.study.pretraining.measure import knn_accuracy
    from fallow.study.probing.vectors import standardized

    features, labels = np.concatenate([bank, queries]), np.concatenate([y, truth])
    held = np.arange(len(bank), len(features))
    head = fit_logistic(standardized(bank, bank), y)
    probe = float((head.logits(standardized(queries, bank)).argmax(1) == truth).mean())
    return {"knn": knn_accuracy(features, labels, [held]), "probe": probe}


def learned_beside(
    start: Any, method: str, images: np.ndarray, seconds: float, batch: int, seed: int
) -> tuple[Any, dict[str, Any]]:
    """Return the backbone as LightlySSL leaves it, and what was done."""
    import lightly_loop

    module = copy.deepcopy(start.module).requires_grad_(True)
    wanted = {"mean": list(start.mean), "std": list(start.std)}
    done = lightly_loop.learn(method, module, start.dim, images, seconds, batch, seed, wanted)
    return replace(start, module=module.eval()), done


def known_to(name: str, start: Any, images: np.ndarray) -> Any:
    """Return what the frozen network that a method asks for says of the images; its time is not counted."""
    import torch

    from fallow.data import cache_dir
    from fallow.methods import PRETRAIN
    from fallow.models import Embedder, load_backbone

    asks = PRETRAIN[name].asks
    if not asks:
        return None
    backbone, size = (start, SIZE) if asks == "start" else (load_backbone(TEACHER), TEACHER_SIZE)
    embedder = Embedder(backbone, size, cache=cache_dir())
    pixels = np.stack([embedder.preprocess.resize(image) for image in images])
    return torch.from_numpy(embedder.embed_pixels(pixels))


def cell(
    method: str, seed: int, images: Draw, seconds: float, steps: int | None, batch: int
) -> dict[str, Any]:
    """Learn by one method and judge."""
    import torch

    from fallow.config import PretrainConfig
    from fallow.engine import time_steps
    from fallow.record import DecisionLog
    from fallow.study.pretraining.fit import Lesson, features_now
    from fallow.study.pretraining.plan import Planner, PretrainPlan
    from fallow.study.trained.network import NetworkPlan, untrained

    torch.manual_seed(seed)
    learned, y = images_of(images.labeled)
    order = np.random.default_rng(seed).permutation(len(images.test))[:TESTED]
    queries, truth = images_of([images.test[i] for i in order])
    row: dict[str, Any] = {"images": len(learned), "judged": len(queries), "batch": batch}
    row["threads"] = torch.get_num_threads()
    if method == "pixels":
        flat = [x.reshape(len(x), -1).astype(np.float32) / 255 for x in (learned, queries)]
        return row | judged(flat[0], y, flat[1], truth)
    network = NetworkPlan("small_resnet_32", SIZE, scratch=True, trainable="all")
    planner = Planner(None, PretrainConfig(seed=seed), None, DecisionLog())  # type: ignore[arg-type]
    start = untrained(network.backbone, SIZE, seed)
    beside = method.startswith(BESIDE)
    if beside:
        start, done = learned_beside(start, method.removeprefix(BESIDE), learned, seconds, batch, seed)
        row |= done
    as_it_is = beside or method == "random"
    name = "simclr" if as_it_is else method
    plan = PretrainPlan(
        network, name, planner.settings(network, name, batch, steps or 1000), ("hflip",), seconds
    )
    lesson = Lesson(learned, gray=False, known=known_to(name, start, learned))
    if not as_it_is and steps is None:
        each = time_steps(lesson.loop(start, plan), 3)
        plan = replace(plan, settings=planner.settings(network, name, batch, max(20, int(seconds / each))))
    loop = lesson.loop(start, plan)
    if not as_it_is:
        begun = time.monotonic()
        outcome = loop.run()
        spent = time.monotonic() - begun
        loop.trainee.network = outcome.network
        row |= {
            "steps": outcome.steps,
            "seconds": round(spent, 1),
            "images_per_second": round(outcome.steps * batch / spent, 1),
            "findings": [found.kind for found in outcome.findings],
        }
    found = features_now(loop, learned), features_now(loop, queries)
    return row | judged(found[0], y, found[1], truth)


def main() -> None:
    from fallow.methods import PRETRAIN

    there = [
        name for name, kind in PRETRAIN.items() if not kind.needs_tokens and "labels" not in kind.info.needs
    ]
    parser = suite_parser(__doc__, SEEDS)
    parser.add_argument("--methods", default=",".join(("pixels", "random", *there)))
    parser.add_argument("--seconds", type=float, default=180.0, help="of each method's steps")
    parser.add_argument("--steps", type=int, help="of each method, instead of seconds")
    parser.add_argument("--batch", type=int, default=128)
    asked = parser.parse_args()
    known = load("cifar10", asked.data.resolve())
    done = {(r["suite"], r["method"], r["seed"], r["asked"]) for r in read_rows(NAME)}
    budget = f"{asked.steps} steps" if asked.steps else f"{asked.seconds:g} s"
    for seed in seeds_of(asked.seeds, SEEDS[asked.suite]):
        images = draw(known, PER_CLASS, seed, asked.suite, pool=0)
        for method in asked.methods.split(","):
            if (asked.suite, method, seed, budget) in done:
                continue
            row = {"suite": asked.suite, "method": method, "seed": seed, "asked": budget}
            row |= cell(method, seed, images, asked.seconds, asked.steps, asked.batch)
            with (RESULTS / f"{NAME}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{method:>14} seed {seed}: kNN {100 * row['knn']:.1f} %, probe {100 * row['probe']:.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
