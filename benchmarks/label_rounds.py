"""A further round of labels measured: does it accept more at the same real precision, and does the guard keep the right ones?

    python benchmarks/label_rounds.py dev --data DIR [--seeds 0-4] [--only ucmerced]

Development splits only, up to three rounds at precision 0.95. Each row has what every round that was looked at really is, the
dropped ones too: accepted images and how many of these labels are right (``revealed``), the share of the pool that could be
accepted with 95 % right by its own order (``reach``), right labels in the whole pool, test accuracy; and what the last kept round states, corrected for the choice.
Cells in ``results/label-dev-rounds.jsonl`` are skipped. ``python benchmarks/label_rounds.py table --data DIR`` prints what they say.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from label import REPEATS, Cell
from protocol import RESULTS, Known, draw, load, read_rows, seeds_of, suite_parser

ROUNDS, PRECISION, NAME = 3, 0.95, "label-dev-rounds"


def cells(seeds: range) -> Iterator[Cell]:
    """Yield the cells, one draw of all data sets after the other."""
    for seed in seeds:
        yield Cell("plain", "ucmerced", 5, seed, "dev")
        yield Cell("plain", "ucmerced", 10, seed, "dev")
        yield Cell("plain", "clothing", 20, seed, "dev")
        yield Cell("plain", "digits", 10, seed, "dev")
        yield Cell("skewed", "ucmerced", 5, seed, "dev", 30.0)


def measure(cell: Cell, known: Known, work: Path) -> dict[str, Any]:
    """Label one pool in rounds and return the row."""
    from fallow.config import LabelConfig
    from fallow.data import open_source
    from fallow.record import RunDir, write_json
    from fallow.study import Clock, Study
    from fallow.study.labeling.answers import of_ladder
    from fallow.study.labeling.rounds import ended, look
    from fallow.study.labeling.session import judge

    drawn = draw(known, cell.per_class, cell.seed, cell.split, imbalance=cell.imbalance)
    drawn.write_csv(work / "data.csv")
    config = LabelConfig(
        seed=cell.seed,
        offline=True,
        budget="6h",
        choose={"repeats": REPEATS},
        rounds=ROUNDS,
        precision=PRECISION,
    )
    run = RunDir.create(work / "run")
    write_json(run.path / "request.json", {"data": str(work), "config": {}})
    study = Study(
        open_source(work / "data.csv"), config.ladder(), run, Clock(config.seconds), without_prior=cell.data
    )
    spent = [time.process_time()]
    ctx, best = study.rise()
    answers = of_ladder(study, ctx, best)
    spent.append(time.process_time())
    found = look(study, ctx, best, config, answers)
    assert found is not None
    spent.append(time.process_time())
    hidden = {str(path): name for path, name in drawn.pool}
    truth = np.searchsorted(ctx.data.classes, [hidden[str(id_)] for id_ in ctx.pool.ids])
    test, y = ctx.data.images(ctx.data.test_ids), ctx.data.test_classes()
    rows = []
    for one, (kept, why) in zip(found.made, found.told, strict=True):
        lesson, _ = one.accepted()
        probs = one.answers.probs
        right = (probs.argmax(1) == truth)[np.argsort(-probs.max(1), kind="stable")]
        reach = np.flatnonzero(np.cumsum(right) >= PRECISION * np.arange(1, len(right) + 1))
        rows.append(
            {
                "kept": kept,
                "why": why,
                "held_out": round(float(one.right.mean()), 5),
                "accepted": len(lesson),
                "revealed": round(float((lesson.guess == truth[lesson.rows]).mean()), 5) if len(lesson) else None,
                "reach": round(float(reach[-1] + 1) / len(truth), 5) if len(reach) else 0.0,
                "pool": round(float(right.mean()), 5),
                "test": round(float((study.finals[one.name].predict(test).probs.numpy().argmax(1) == y).mean()), 5),
            }
        )  # fmt: skip
    made = judge(ctx, config, ended(study, ctx, config, found))
    stated, pool = made.summary.precision, made.labels.pool
    accepted = pool.where("accept")
    return {
        "key": cell.key,
        **{k: getattr(cell, k) for k in ("kind", "data", "per_class", "seed", "split", "imbalance")},
        "rung": best,
        "images": len(ctx.pool),
        "labels": made.summary.labels,
        "rounds": rows,
        "kept": found.kept + 1,
        "stated": None if stated is None else [round(v, 5) for v in (stated.value, stated.low, stated.high)],
        "revealed": round(float((pool.guess == truth)[accepted].mean()), 5) if len(accepted) else None,
        "cpu_seconds": np.diff(spent).round(1).tolist(),
    }


def tell() -> None:
    """Print what the finished cells say: paired differences to the first round, the mean over draws and its standard error."""
    rows = read_rows(NAME)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["data"], row["per_class"], row["imbalance"]), []).append(row)
    covered = [row["stated"][1] <= row["revealed"] <= row["stated"][2] for row in rows if row["stated"]]
    for key, members in groups.items():
        print(f"{' '.join(map(str, key))}, {len(members)} draws, kept {[row['kept'] for row in members]}")
        for name in ("accepted", "revealed", "reach", "pool", "test"):
            scale = [row["images"] if name == "accepted" else 1 for row in members]
            first, second, last = (
                np.array([row["rounds"][at(row)][name] / n for row, n in zip(members, scale, strict=True)], float)
                for at in (lambda row: 0, lambda row: min(1, len(row["rounds"]) - 1), lambda row: row["kept"] - 1)
            )  # fmt: skip
            print(
                f"  {name:9} round 1 {100 * first.mean():.1f}, second {_gain(second - first)}, as kept {_gain(last - first)}"
            )
    print(f"stated intervals at the end cover {sum(covered)}/{len(covered)}")


def _gain(change: np.ndarray) -> str:
    error = change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else np.nan
    return f"{100 * change.mean():+.2f} ± {100 * error:.2f}"


def main() -> None:
    options = suite_parser(__doc__, ("dev", "table")).parse_args()
    if options.suite == "table":
        tell()
        return
    known: dict[str, Known] = {}
    for cell in cells(seeds_of(options.seeds, range(5))):
        if options.only and cell.data not in options.only.split(","):
            continue
        if cell.key in {row["key"] for row in read_rows(NAME)}:
            continue
        known.setdefault(cell.data, load(cell.data, options.data.resolve()))
        work = Path(tempfile.mkdtemp(prefix="fallow-bench-"))
        try:
            row = measure(cell, known[cell.data], work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        with (RESULTS / f"{NAME}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            cell.key, row["kept"], [(one["accepted"], one["revealed"]) for one in row["rounds"]], flush=True
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
