"""What `fallow label` might do instead: richer maps from how sure a model is to how often it is right, other scores of strangeness.

    python benchmarks/label_tried.py maps --data DIR      # 1,000 held-out labels and more: isotonic regression, freer classes
    python benchmarks/label_tried.py scores --data DIR    # a fifth of the pool of no class: distance, energy, both
    python benchmarks/label_tried.py table --data DIR     # prints what the finished cells say

Development draws only. Rows go to ``results/label-tried.jsonl``; cells that are there are not measured again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from label import FOREIGN, Cell
from numpy.typing import NDArray
from protocol import RESULTS, Draw, Known, draw, load, read_rows, seeds_of, suite_parser
from trained import context

NAME = "label-tried"
MAPS = (("ucmerced", 50, None), ("fashion", 120, 4000), ("cifar10", 150, 4000))
SCORES = (("ucmerced", 5), ("ucmerced", 10), ("clothing", 20), ("digits", 4), ("cifar10", 25))
TARGETS = (0.9, 0.95, 0.98)
SUITES = {"maps": range(2), "scores": range(3), "table": range(0)}
PARTS, FALSE_SHARE, POOL = 5, 0.2, 2000
Floats = NDArray[np.float64]


def maps(cell: Cell, known: Known, work: Path) -> dict[str, Any]:
    """Return how well each map tells the right labels of a pool from the wrong ones, and what would be accepted by it."""
    from fallow.config import LabelConfig
    from fallow.data import open_source
    from fallow.record import RunDir, write_json
    from fallow.study import Clock, Study
    from fallow.study.labeling import reliability
    from fallow.study.labeling.answers import of_ladder
    from fallow.study.labeling.threshold import by_precision

    drawn = draw(known, cell.per_class, cell.seed, "dev", pool=cell.pool)
    drawn.write_csv(work / "data.csv")
    config = LabelConfig(seed=cell.seed, offline=True, budget="2h", choose={"repeats": 2})  # type: ignore[arg-type]
    run = RunDir.create(work / "run")
    write_json(run.path / "request.json", {"data": "data.csv", "config": {}})
    source = open_source(work / "data.csv")
    study = Study(source, config.ladder(), run, Clock(config.seconds), without_prior=cell.data)
    ctx, best = study.rise()
    answers = of_ladder(study, ctx, best)
    held, truth = answers.held_out, hidden(drawn, ctx.pool.ids)
    right = np.asarray(answers.classes, object)[answers.probs.argmax(1)] == truth

    def stepped(x: Floats, new: Floats) -> Floats:
        """Isotonic regression of "was it right", whose ends are as far from 0 and 1 as so many labels can tell."""
        from sklearn.isotonic import IsotonicRegression

        edge = 1 / (held.labels + 2)
        steps = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
        said = steps.fit(x, held.right, sample_weight=held.share).predict(new)
        return np.asarray(1 - (1 - said) * held.learned, np.float64)

    ours = reliability.Reliability.fit(held)
    found = {
        "fallow": ours.probability(answers.probs),
        "isotonic": stepped(held.probs.max(1), answers.probs.max(1)),
        "isotonic after it": stepped(ours.probability(held.probs), ours.probability(answers.probs)),
    }
    shrunk, reliability._SD_CLASS = reliability._SD_CLASS, 1.0
    found["freer classes"] = reliability.Reliability.fit(held).probability(answers.probs)
    reliability._SD_CLASS = shrunk
    rows: dict[str, Any] = {"held_out": held.labels, "images": len(right), "rung": best}
    for name, probability in found.items():
        p = np.clip(probability, 1e-4, 1 - 1e-4)
        made: dict[str, Any] = {"log_loss": round(float(-np.log(np.where(right, p, 1 - p)).mean()), 5)}
        for target in TARGETS:
            taken = by_precision(probability, np.ones(len(right), bool), target).accepted
            made[f"{target:g}"] = [round(float(v), 4) for v in (taken.mean(), right[taken].mean())]
        rows[name] = made
    return rows


def scores(cell: Cell, known: Known, others: Known, work: Path) -> dict[str, Any]:
    """Return how well each score tells images of no class from the rest, and what is set aside by it."""
    from scipy.special import logsumexp
    from sklearn.metrics import roc_auc_score

    from fallow.models import fit_logistic
    from fallow.study.inputs import FrozenInputs
    from fallow.study.trained.foreign import benjamini_hochberg, conformal_p_values, nearness

    ctx = context(cell, known, others, work, POOL)
    drawn = draw(
        known, cell.per_class, cell.seed, "dev", pool=POOL, foreign=others, foreign_fraction=cell.foreign
    )
    alien = hidden(drawn, ctx.pool.ids) == ""
    inputs, y = FrozenInputs(ctx, None), ctx.data.y
    part = np.random.default_rng(cell.seed).permutation(len(y)) % PARTS
    own, pool = [], []
    for space in inputs.spaces:
        labeled, rest = inputs.apart(space)
        pool.append(logsumexp(fit_logistic(labeled, y).logits(rest), axis=1))
        held = np.zeros(len(y))
        for p in range(PARTS):
            head = fit_logistic(labeled[part != p], y[part != p])
            held[part == p] = logsumexp(head.logits(labeled[part == p]), axis=1)
        own.append(held)
    near, far = nearness(inputs, 3)
    energy = np.mean(own, axis=0), np.mean(pool, axis=0)

    def logged(reference: Floats, x: Floats) -> Floats:
        return np.log((np.searchsorted(np.sort(reference), x, side="right") + 1) / (len(reference) + 1))

    both = (
        logged(near, near) + logged(energy[0], energy[0]),
        logged(near, far) + logged(energy[0], energy[1]),
    )
    found: dict[str, Any] = {"aliens": int(alien.sum()), "images": len(alien)}
    for name, (ours, theirs) in {"distance": (near, far), "energy": energy, "both": both}.items():
        aside = benjamini_hochberg(conformal_p_values(ours, theirs), FALSE_SHARE)
        found[name] = {
            "auc": round(float(roc_auc_score(~alien, theirs)), 4),
            "aliens": int((aside & alien).sum()),
            "own": int((aside & ~alien).sum()),
        }
    return found


def hidden(drawn: Draw, ids: tuple[str, ...]) -> NDArray[Any]:
    """Return the true class of each pool image; empty for one of no class."""
    truth = {str(path): name for path, name in drawn.pool}
    return np.array([truth[str(i)] for i in ids], object)


def tell() -> None:
    """Print what the finished cells say."""
    for row in read_rows(NAME):
        print(row["suite"], row["data"], row["per_class"], "seed", row["seed"])
        for name, value in row.items():
            if isinstance(value, dict):
                print(f"  {name:18}", json.dumps(value))


def main() -> None:
    options = suite_parser(__doc__, SUITES).parse_args()
    if options.suite == "table":
        tell()
        return
    cells = MAPS if options.suite == "maps" else tuple((*pair, None) for pair in SCORES)
    done = {(r["suite"], r["data"], r["per_class"], r["seed"]) for r in read_rows(NAME)}
    folder = options.data.resolve()
    for data, per_class, pool in cells:
        for seed in seeds_of(options.seeds, SUITES[options.suite]):
            key = {"suite": options.suite, "data": data, "per_class": per_class, "seed": seed}
            if tuple(key.values()) in done or (options.only and data not in options.only.split(",")):
                continue
            work = Path(tempfile.mkdtemp(prefix="fallow-bench-"))
            foreign = 0.2 if options.suite == "scores" else 0.0
            cell = Cell(options.suite, data, per_class, seed, "dev", pool=pool, foreign=foreign)
            try:
                known = load(data, folder)
                other = load(FOREIGN.get(data, "fashion"), folder) if foreign else None
                row = key | (scores(cell, known, other, work) if other else maps(cell, known, work))
            finally:
                shutil.rmtree(work, ignore_errors=True)
            with (RESULTS / f"{NAME}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
