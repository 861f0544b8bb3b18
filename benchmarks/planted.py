"""Planted failures: how soon does a person read what is wrong?

    python benchmarks/planted.py --data DIR [--only NAMES] [--budget 10m] [--out benchmarks/results/planted.json]

Runs ``fallow train`` on digits (4 labels a class, 600 unlabeled images) with something wrong, listens to the lines that it
writes where no terminal is, and says at which share of the steps, or of the budget, the sentence about it came. Nothing inside
of the program is changed: everything is planted by options and data that a person could give.

=============  =====================================================================================================
``rate``       the learning rate of the default times 100
``threshold``  FixMatch with a learning rate so small that no image ever passes its threshold
``labels``     the labels of all training images shuffled
``nothing``    nothing is wrong: to the end, with fewer steps, and none of these sentences may come
=============  =====================================================================================================
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protocol import RESULTS, Draw, draw, load

from fallow.config import parse_duration

STEP = re.compile(r"at step (\d+) of (\d+)")
SOON = 0.05


@dataclass(frozen=True)
class Planted:
    """What is wrong, how it is planted, and what tells of it."""

    name: str
    options: tuple[str, ...]
    told: re.Pattern[str]
    shuffled: bool = False


FAILURES = (
    Planted(
        "rate",
        ("--rungs", "finetune", "--set", "optimization.lr=0.2"),
        re.compile("the learning rate is too high|lower the learning rate"),
    ),
    Planted(
        "threshold",
        ("--rungs", "joint", "--method", "fixmatch", "--set", "optimization.lr=1e-6"),
        re.compile("pass the threshold, so that they teach nothing"),
    ),
    Planted(
        "labels",
        (
            "--rungs",
            "finetune",
        ),
        re.compile("the labels may be mixed up"),
        shuffled=True,
    ),
)
HEALTHY = Planted(
    "nothing",
    ("--rungs", "finetune,joint", "--set", "optimization.steps=200", "--set", "choose.folds=2"),
    re.compile("|".join(one.told.pattern for one in FAILURES)),
)


def shuffled(drawn: Draw, seed: int) -> Draw:
    """Deal the labels of the training images anew."""
    labels = [label for _, label in drawn.labeled]
    random.Random(seed).shuffle(labels)
    return replace(
        drawn, labeled=[(file, label) for (file, _), label in zip(drawn.labeled, labels, strict=True)]
    )


def listen(planted: Planted, data: Path, out: Path, budget: str) -> dict[str, Any]:
    """Run until the sentence comes, or to the end."""
    command = [sys.executable, "-m", "fallow", "train", str(data), "--out", str(out), "--offline"]
    command += ["--budget", budget, "--set", "choose.repeats=1", *planted.options]
    begun = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    row: dict[str, Any] = {"planted": planted.name, "told": "", "by_share_of": "", "share": None}
    assert process.stderr is not None
    for line in process.stderr:
        if not planted.told.search(line):
            continue
        seconds = time.monotonic() - begun
        row |= {"told": re.sub(r"^.*?note: ", "", line.strip()), "seconds": round(seconds, 1)}
        if found := STEP.search(line):
            row |= {"by_share_of": "steps", "share": round(int(found[1]) / int(found[2]), 4)}
        else:
            row |= {"by_share_of": "budget", "share": round(seconds / parse_duration(budget), 4)}
        process.send_signal(signal.SIGINT)
        break
    process.stderr.read()
    process.wait()
    row["soon"] = row["share"] is not None and row["share"] <= SOON
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--only", help="which of them, comma separated")
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "planted.json")
    options = parser.parse_args()
    drawn = draw(load("digits", options.data.resolve()), 4, options.seed, "dev", pool=600)
    rows = []
    with tempfile.TemporaryDirectory(prefix="fallow-planted-") as folder:
        for planted in (*FAILURES, HEALTHY):
            if options.only and planted.name not in options.only.split(","):
                continue
            data = Path(folder, f"{planted.name}.csv")
            (shuffled(drawn, options.seed) if planted.shuffled else drawn).write_csv(data)
            row = listen(planted, data, Path(folder, planted.name), options.budget)
            rows.append(row)
            share = "never" if row["share"] is None else f"{row['share']:.1%} of the {row['by_share_of']}"
            print(f"{planted.name:10s} {share:20s} {row['told']}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"seed": options.seed, "budget": options.budget, "rows": rows}, indent=1) + "\n",
        encoding="utf-8",
    )
    if not all(row["soon"] != (row["planted"] == HEALTHY.name) for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
