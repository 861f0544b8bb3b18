"""Print the committed figures as tables (Markdown): the promises, and what the chooser is worth.

python benchmarks/tables.py > benchmarks/TABLES.md
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from choice import climbed, policies
from protocol import RESULTS, read_rows
from scipy.stats import t as student
from tables_ways import print_ways

from fallow.study import Paired, Prior, compare, keep, prior

Row = dict[str, Any]
Policy = Callable[[Row], str]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval (Student's t over seeds)."""
    x = np.asarray(values, float)
    half = (
        float(student.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
        if len(x) > 1
        else float("nan")
    )
    return float(x.mean()), float(x.mean()) - half, float(x.mean()) + half


def shown(values: Sequence[float]) -> str:
    if len(values) == 1:  # one draw has no interval
        return f"{100 * values[0]:+.2f}"
    mean, low, high = (100 * v for v in interval(values))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def cells(rows: list[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by everything but the seed."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[
            row["data"], row["backbone"], row["pool"], row["imbalance"], row["foreign"], row["per_class"]
        ].append(row)
    return dict(sorted(groups.items(), key=lambda item: tuple(str(v).zfill(8) for v in item[0])))


def title(key: tuple[Any, ...]) -> str:
    data, backbone, pool, imbalance, foreign, _ = key
    extras = [
        f"pool {imbalance:g}:1" if imbalance != 1 else "",
        f"{pool:,} in the pool" if pool else "",
        f"{foreign:.0%} of no class" if foreign else "",
        f"backbone {backbone}" if backbone != "auto" else "",
    ]
    return ", ".join([data, *filter(None, extras)])


def scored(row: Row, rung: str, what: str = "test") -> float:
    return float(row["rungs"][rung][what])


def promises(rows: list[Row]) -> list[str]:
    """Return the table of the final cells."""
    lines = [
        "| data | labels a class | seeds | labels only | reference spreading | chosen | chosen - reference | "
        "chosen - labels only | regret | balanced: labels only, chosen | seconds, mean and most |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, group in cells(rows).items():
        chosen = [scored(r, r["chosen"]) for r in group]
        base = [scored(r, "probe") for r in group]
        plain = [r["reference"]["plain"]["spread"] for r in group]
        best = max(float(np.mean([scored(r, name) for r in group])) for name in group[0]["rungs"])
        seconds = [r["seconds"] for r in group]
        balanced = [np.mean([scored(r, n, "balanced_test") for r in group]) for n in ("probe",)]
        balanced += [np.mean([scored(r, r["chosen"], "balanced_test") for r in group])]
        lines.append(
            f"| {title(key)} | {key[-1]} | {len(group)} | {100 * np.mean(base):.1f} | {100 * np.mean(plain):.1f} | "
            f"**{100 * np.mean(chosen):.1f}** | {shown([c - p for c, p in zip(chosen, plain, strict=True)])} | "
            f"{shown([c - b for c, b in zip(chosen, base, strict=True)])} | "
            f"{100 * (best - np.mean(chosen)):.2f} | {100 * balanced[0]:.1f}, {100 * balanced[1]:.1f} | "
            f"{np.mean(seconds):.0f}, {max(seconds):.0f} |"
        )
    return lines


def same_vectors(rows: list[Row]) -> list[str]:
    """Return the table against the reference on the very vectors (averaged over views) that the rungs saw."""
    lines = [
        "| data | labels a class | reference on our vectors: labels only, spreading | chosen - that spreading |",
        "|---|---|---|---|",
    ]
    for key, group in cells(rows).items():
        other = [r["reference"]["same_vectors"] for r in group]
        gap = [scored(r, r["chosen"]) - o["spread"] for r, o in zip(group, other, strict=True)]
        lines.append(
            f"| {title(key)} | {key[-1]} | {100 * np.mean([o['labels_only'] for o in other]):.1f}, "
            f"{100 * np.mean([o['spread'] for o in other]):.1f} | {shown(gap)} |"
        )
    return lines


def choose(row: Row) -> str:
    """Choose again with the shipped prior, the cell's own data set left out."""
    return by_evidence(row, prior("propagate", row["labels_a_class"], without=row["data"]))


def by_evidence_alone(row: Row) -> str:
    """Choose by the sign of the held-out difference; without any, spread."""
    return by_evidence(row, Prior(1e-9, 10.0))


def by_evidence(row: Row, expected: Prior) -> str:
    made = [compare(Paired(*one), expected) for one in row["evidence"]] or [compare(None, expected)]
    return "propagate" if keep(min(made, key=lambda c: c.p_better), cheap=True) else "probe"


def if_significant(row: Row) -> str:
    """Choose propagation only where the 95 % interval of its gain excludes no gain."""
    gain = row["rungs"]["propagate"]["gain"]
    return "propagate" if gain is not None and gain[1] > 0 else "probe"


POLICIES: dict[str, Policy] = {
    "chooser (prior and evidence)": choose,
    "always propagate": lambda row: "propagate",
    "only if significant": if_significant,
    "held-out figure alone": by_evidence_alone,
    "never": lambda row: "probe",
    "hindsight": lambda row: max(("probe", "propagate"), key=lambda name: scored(row, name)),
}


def choosing(rows: list[Row]) -> list[str]:
    """Return the expected accuracy of each policy: the mean over cells of the mean over seeds."""
    groups = cells(rows)
    lost = {
        key
        for key, g in groups.items()
        if np.mean([scored(r, "propagate") - scored(r, "probe") for r in g]) < 0
    }
    lines = [
        f"{len(groups)} cells, {len(rows)} runs; in {len(lost)} cells propagation loses to labels only in the mean.",
        "",
        "| policy | mean accuracy, all cells | where propagation wins | where it loses |",
        "|---|---|---|---|",
    ]
    for name, policy in POLICIES.items():
        means = {key: float(np.mean([scored(r, policy(r)) for r in g])) for key, g in groups.items()}
        won = [m for key, m in means.items() if key not in lost]
        others = [m for key, m in means.items() if key in lost]
        lines.append(
            f"| {name} | {100 * np.mean(list(means.values())):.2f} | {100 * np.mean(won):.2f} | "
            f"{f'{100 * np.mean(others):.2f}' if others else '-'} |"
        )
    return lines


def trained(rows: list[Row]) -> list[str]:
    """Return the table of the trained rungs' cells: each variant beside fine-tuned labels only, paired by seed."""
    lines = [
        "| data | labels a class | method | seeds | test accuracy | above finetune | balanced accuracy | seconds a fit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["data"], row["per_class"], row["imbalance"], row["foreign"]].append(row)
    for (data, per_class, imbalance, foreign), group in groups.items():
        name = title((data, "auto", None, imbalance, foreign, per_class))
        tuned = {r["seed"]: r["test"] for r in group if r["variant"] == "finetune"}
        for variant in dict.fromkeys(r["variant"] for r in group):
            mine = [r for r in group if r["variant"] == variant]
            gains = [r["test"] - tuned[r["seed"]] for r in mine if r["seed"] in tuned]
            test, even, took = (
                float(np.mean([r[k] for r in mine])) for k in ("test", "balanced_test", "seconds")
            )
            above = "-" if variant == "finetune" or not gains else shown(gains)
            lines.append(
                f"| {name} | {per_class} | {variant} | {len(mine)} | {100 * test:.1f} | {above} | {100 * even:.1f} | "
                f"{took:.0f} |"
            )
    return lines


TRAINED = {
    "final": "The trained rungs from scratch (final split, 40 labels in all, steps pinned)",
    "tail": "Long tails: pools skewed 30:1, with and without +abc and the estimated mix",
    "foreign": "Images of no class in the pool, kept and set aside",
    "dev": "The trained rungs on development splits",
}

WHOLE = {
    "final": "Whole runs (final split), and what other ways to choose would have got",
    "dev": "Whole runs on development splits, and what other ways to choose would have got",
}


def budgets() -> list[str]:
    """Whole runs, report and all, against the budget that they were given; and the demo."""
    lines = [
        "| data | budget | cache | seconds | share of the budget | chosen | test accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in json.loads((RESULTS / "budget.json").read_text(encoding="utf-8")):
        given = int(row["budget"][:-1]) * {"s": 1, "m": 60}[row["budget"][-1]]
        lines.append(
            f"| {row['data']} | {row['budget']} | {row['cache']} | {row['wall']:.0f} | {row['wall'] / given:.0%} | "
            f"{row['chosen']} | {100 * row['test']:.1f} |"
        )
    demo = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))
    most, mean = max(row["seconds"] for row in demo["rows"]), demo["mean"]
    told = (
        f"The demo (two minutes, {len(demo['rows'])} seeds): {100 * mean['chosen']:.1f} %, labels only "
        f"{100 * mean['labels_only']:.1f}; {mean['seconds']:.0f} s, {most:.0f} at most."
    )
    return [*lines, "", told]


def main() -> None:
    final, dev = read_rows("final"), read_rows("dev")
    print(
        "# Measured\n\nHow, and the commands: [README.md](README.md). Accuracies in percent, on test images that nothing"
    )
    print("was chosen by; differences are paired by seed, with 95 % intervals (Student's t over seeds).\n")
    if final:
        print("## The promises (final split)\n", *promises(final), "", sep="\n")
        print(
            "## Against the baseline on the same, view-averaged vectors\n", *same_vectors(final), "", sep="\n"
        )
        print("## Budgets kept (development draws, two cores)\n", *budgets(), "", sep="\n")
        print("## The chooser on the final split\n", *choosing(final), "", sep="\n")
    if dev:
        print("## The chooser on the development cells, hard ones included\n", *choosing(dev), "", sep="\n")
    for suite, heading in TRAINED.items():
        if rows := read_rows(f"trained-{suite}"):
            print(f"## {heading}\n", *trained(rows), "", sep="\n")
    for suite, heading in WHOLE.items():
        if rows := read_rows(f"whole-{suite}"):
            print(f"## {heading}\n", *climbed(rows, shown), "", *policies(rows), "", sep="\n")
    print_ways(shown)


if __name__ == "__main__":
    main()
