"""Ways to choose among all rungs, tried again on what whole development runs saw (``results/whole-dev.jsonl``).

    python benchmarks/choice.py [SUITE]

Nothing is trained: a row holds what held-out labels said of every pair of rungs, and what every rung got on the test images.
The prior leaves out the row's own data set. The default suite is ``dev``; on ``final`` the table is for reading, not for choosing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from priors import FROM_SCRATCH
from protocol import read_rows

from fallow.study import Comparison, Paired, compare, prior

Row = dict[str, Any]
DEAR = ("finetune", "joint", "pretrain", "noisy_student", "ensemble")


def compared(row: Row, rung: str, best: str) -> Comparison:
    """Return what the chooser makes of a pair."""
    expected = prior(
        rung,
        row["labels_a_class"],
        over=best,
        network="scratch" if row["data"] in FROM_SCRATCH else "pretrained",
        without=row["data"],
    )
    seen = row["pairs"][f"{rung} over {best}"]
    if not seen:
        return compare(None, expected)
    made = [compare(Paired(observed, variance), expected) for observed, variance, _ in seen]
    return min(made, key=lambda one: one.p_better)


def by_bar(bar: float, row: Row) -> str:
    """Choose as the ladder does: a dear rung replaces the best below it at P(better) >= ``bar``."""
    best = "probe"
    for rung in list(row["rungs"])[1:]:
        if compared(row, rung, best).p_better >= (bar if rung in DEAR else 0.5):
            best = rung
    return best


def as_it_was(row: Row) -> str:
    return str(row["chosen"])


def by_figure(row: Row) -> str:
    """Choose what looks best on the held-out labels, the cheaper of equals."""
    best = "probe"
    for rung in list(row["rungs"])[1:]:
        seen = row["pairs"][f"{rung} over {best}"]
        if seen and seen[0][0] > 0:
            best = rung
    return best


def cheap(row: Row) -> str:
    return "propagate" if "propagate" in row["rungs"] else "probe"


def last(row: Row) -> str:
    return list(row["rungs"])[-1]


def hindsight(row: Row) -> str:
    return max(row["rungs"], key=lambda rung: float(row["rungs"][rung]["test"]))


POLICIES: dict[str, Callable[[Row], str]] = {
    "as the run chose": as_it_was,
    **{f"pair prior, bar {bar:g}": partial(by_bar, bar) for bar in (0.5, 0.6, 0.7, 0.8)},
    "held-out figure alone": by_figure,
    "propagate": cheap,
    "the last rung": last,
    "hindsight": hindsight,
}


def policies(rows: list[Row]) -> list[str]:
    """Return what each way to choose would have got: the mean over draws by cell, and over the cells."""
    cells = sorted({(row["data"], row["per_class"]) for row in rows})
    lines = [
        f"| policy | all cells | {' | '.join(f'{data} {k}' for data, k in cells)} | worst draw against propagate |",
        "|---|---|" + "---|" * (len(cells) + 1),
    ]
    for name, policy in POLICIES.items():
        got = {row["key"]: 100 * row["rungs"][policy(row)]["test"] for row in rows}
        means = [
            float(np.mean([got[r["key"]] for r in rows if (r["data"], r["per_class"]) == cell]))
            for cell in cells
        ]
        worst = min(got[r["key"]] - 100 * r["rungs"][cheap(r)]["test"] for r in rows)
        lines.append(
            f"| {name} | {np.mean(means):.2f} | {' | '.join(f'{m:.1f}' for m in means)} | {worst:+.1f} |"
        )
    return lines


def climbed(rows: list[Row], shown: Callable[[list[float]], str]) -> list[str]:
    """Return what whole runs got on test images, rung by rung and as chosen, paired by draw with the cheap ladder's best.

    Args:
        rows: Of one suite.
        shown: Writes differences as their mean and interval.
    """
    lines = [
        "| data | labels a class | budget | draws | rung | test accuracy | above propagate | chosen in | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in dict.fromkeys((row["data"], row["per_class"], row["budget"]) for row in rows):
        mine = [r for r in rows if (r["data"], r["per_class"], r["budget"]) == cell]
        names = list(dict.fromkeys(name for row in mine for name in row["rungs"]))
        for name in (*names, "**chosen**"):
            here = [(row, row["chosen"] if name == "**chosen**" else name) for row in mine]
            here = [(row, rung) for row, rung in here if rung in row["rungs"]]
            tests = [row["rungs"][rung]["test"] for row, rung in here]
            above = [
                test - row["rungs"][cheap(row)]["test"] for test, (row, _) in zip(tests, here, strict=True)
            ]
            took = [
                row["seconds"] if name == "**chosen**" else row["rungs"][rung]["seconds"]
                for row, rung in here
            ]
            times = "-" if name == "**chosen**" else sum(row["chosen"] == name for row in mine)
            lines.append(
                f"| {cell[0]} | {cell[1]} | {cell[2]} | {len(here)} | {name} | {100 * np.mean(tests):.1f} | "
                f"{'-' if name == 'propagate' else shown(above)} | {times} | {np.mean(took):.0f} |"
            )
    return lines


def main() -> None:
    rows = read_rows(f"whole-{sys.argv[1] if len(sys.argv) > 1 else 'dev'}")
    print(*policies(rows), f"\n{len(rows)} runs; the first column is the mean of the cells.", sep="\n")


if __name__ == "__main__":
    main()
