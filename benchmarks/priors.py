"""Write the chooser's prior, ``src/fallow/study/priors.json``, from the development cells (``ladder.py dev``,
``trained.py dev``).

    python benchmarks/priors.py

A row is a data set, a rung and a number of labels a class: mean gain over labels only on the
development test split, its standard deviation over draws, the number of draws. No final test image is behind it, and
none of the cells that were made hard on purpose.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ladder import SMALL_POOL
from protocol import read_rows
from trained import LADDER

OUT = Path(__file__).parents[1] / "src" / "fallow" / "study" / "priors.json"


def trained_gains() -> Iterator[tuple[str, str, float, float]]:
    """Yield data set, rung, labels a class and gain over the probe of the trained rungs' development cells."""
    rows = read_rows("trained-dev")
    tests = {row["key"]: row["test"] for row in rows}
    for row in rows:
        rung = {**LADDER, "finetune": "finetune", "ensemble": "ensemble"}.get(row["variant"])
        probe = tests.get(row["key"].removesuffix(row["variant"]) + "probe")
        if rung is not None and probe is not None:
            yield row["data"], rung, float(row["per_class"]), row["test"] - probe


def main() -> None:
    gains: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for row in read_rows("dev"):
        if row["backbone"] != "auto" or row["foreign"] or row["pool"] == SMALL_POOL:
            continue  # the chooser is tried on these, as the data of somebody who has bad luck
        base = row["rungs"]["probe"]["test"]
        for rung, made in row["rungs"].items():
            if rung != "probe":
                gains[row["data"], rung, row["labels_a_class"]].append(made["test"] - base)
    for name, rung, per_class, gain in trained_gains():
        gains[name, rung, per_class].append(gain)
    rows = [
        {
            "data": name,
            "rung": rung,
            "per_class": per_class,
            "gain": round(float(np.mean(g)), 4),
            "sd": round(float(np.std(g, ddof=1)), 4) if len(g) > 1 else 0.0,
            "draws": len(g),
        }
        for (name, rung, per_class), g in sorted(gains.items())
    ]
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    OUT.write_text(f'{{"rows": [\n  {lines}\n]}}\n', encoding="utf-8")
    print(f"{OUT}: {len(rows)} rows")


if __name__ == "__main__":
    main()
