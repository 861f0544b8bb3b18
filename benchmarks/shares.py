"""Class shares drawn back to the labels-only head's, on and off: refits on the same vectors, development draws.

    python benchmarks/shares.py --data DIR [--seeds 0-9] [--only clothing]
    python benchmarks/shares.py figures

Each cell is one draw of `ladder.py`'s kind; labels only and propagation (with and without `anchor_shares`) are fitted on all
its labels and scored on its development test images. Rows go to ``results/shares-dev.jsonl``; cells that are there are skipped.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ladder import FOREIGN, Cell
from protocol import RESULTS, Known, load, read_rows, seeds_of, suite_parser
from trained import POOL, context, measured

NAME = "shares-dev"
WAYS = ("probe", "drifted", "anchored")


def dev_cells(seeds: list[int]) -> Iterator[Cell]:
    """Yield balanced, imbalanced, skewed and small pools, and one that is mostly foreign."""
    for seed in seeds:
        for name in ("clothing", "ucmerced", "digits"):
            for k in (1, 2, 5):
                yield Cell(name, k, seed, "dev")
        for name in ("ucmerced", "digits"):
            for k in (1, 2, 5):
                yield Cell(name, k, seed, "dev", 30.0)
        for pool in (20, 100):
            yield Cell("clothing", 2, seed, "dev", pool=pool)
        yield Cell("ucmerced", 2, seed, "dev", pool=300, foreign=0.9)


def fits(ctx: Any) -> dict[str, dict[str, Any]]:
    """Return what each way says of the test images."""
    from fallow.models import EmbeddingClassifier
    from fallow.study.candidates.frozen import FrozenCandidate
    from fallow.study.inputs import FrozenInputs, options_of
    from fallow.study.rungs import RUNGS
    from fallow.study.rungs.propagate import spread_heads

    found, options, classes = FrozenInputs(ctx, None), options_of(ctx), ctx.data.classes
    made: dict[str, Any] = {"probe": RUNGS["probe"].fit(ctx, None, {})}
    for name, anchor in (("drifted", 0.0), ("anchored", options.anchor_labels)):
        branches, _ = spread_heads(found, replace(options, anchor_labels=anchor), len(classes))
        made[name] = FrozenCandidate(EmbeddingClassifier(branches, classes), ctx.bank)
    return {name: measured(ctx, candidate, 0.0) for name, candidate in made.items()}


def figures() -> None:
    """Print the mean of each cell over its draws."""
    cells = defaultdict(list)
    for row in read_rows(NAME):
        cells[row["key"].rsplit("/", 1)[0]].append(row)
    for key, rows in cells.items():
        print(f"{key} ({len(rows)} draws)")
        for metric in ("test", "balanced_test"):
            means = [100 * float(np.mean([row[way][metric] for row in rows])) for way in WAYS]
            print(f"  {metric:13s}", *(f"{way} {mean:.1f}" for way, mean in zip(WAYS, means, strict=True)))


def main() -> None:
    if sys.argv[1:] == ["figures"]:
        figures()
        return
    parser = suite_parser(__doc__, ["dev"])
    options = parser.parse_args(["dev", *sys.argv[1:]])
    known: dict[str, Known] = {}
    done = {row["key"] for row in read_rows(NAME)}
    for cell in dev_cells(list(seeds_of(options.seeds, range(10)))):
        if cell.key in done or (options.only and cell.data not in options.only.split(",")):
            continue
        for name in (cell.data, FOREIGN):
            known.setdefault(name, load(name, options.data.resolve()))
        work = Path(tempfile.mkdtemp(prefix="fallow-bench-"))
        try:
            others = known[FOREIGN] if cell.foreign else None
            row = fits(context(cell, known[cell.data], others, work, cell.pool or POOL))
        finally:
            shutil.rmtree(work, ignore_errors=True)
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"{NAME}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": cell.key, **row}) + "\n")
        print(cell.key, *(f"{way} {100 * row[way]['test']:.1f}" for way in WAYS), flush=True)


if __name__ == "__main__":
    main()
