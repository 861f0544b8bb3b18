"""Tables of the other ways in: labels, suggestions, pretraining. Printed by `tables.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from protocol import read_rows
from scipy.stats import binomtest

Row = dict[str, Any]
ASKED = "precision 0.95"


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by some keys, in the order in which they come."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def labels(rows: list[Row]) -> list[str]:
    """Return what automatic labels at a stated precision of 95 % turned out to be."""
    lines = [
        "| data | kind | labels a class | draws | held-out labels | interval covers | its width | stated | revealed | accepted | of no class | "
        "a plain loop keeps |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    inside = total = 0
    for (kind, data, per_class, imbalance), group in grouped(
        rows, "kind", "data", "per_class", "imbalance"
    ).items():
        made = [row["at"][ASKED] for row in group]
        told = [one for one in made if one["stated"] is not None and one["revealed"] is not None]
        stated = np.array([one["stated"] for one in told])
        real = np.array([one["revealed"] for one in told])
        hits = int(((stated[:, 1] <= real) & (real <= stated[:, 2])).sum())
        inside, total = inside + hits, total + len(told)
        share = np.mean([one["accepted"] / row["images"] for one, row in zip(made, group, strict=True)])
        foreign = sum(one["accepted_foreign"] for one in made) / max(sum(one["accepted"] for one in made), 1)
        name = (
            f"skewed {imbalance:g}:1"
            if kind == "skewed"
            else "20 % foreign"
            if kind == "foreign"
            else "plain"
        )
        lines.append(
            f"| {data} | {name} | {per_class} | {len(group)} | {group[0]['held_out']} | {hits} of {len(told)} | "
            f"{(stated[:, 2] - stated[:, 1]).mean():.3f} | {100 * stated[:, 0].mean():.1f} | {100 * real.mean():.1f} | {100 * share:.0f} % | "
            f"{f'{100 * foreign:.2f} %' if kind == 'foreign' else '-'} | {_kept(group)} |"
        )
    chance = binomtest(inside, total, 0.95, alternative="less").pvalue
    lines += [
        "",
        f"In all {inside} of {total} intervals cover; so few or fewer have a chance of {chance:.2f} at 95 %.",
    ]
    return lines


def _kept(group: list[Row]) -> str:
    """Return how much of propagation's gain a head on frozen features keeps that learns from the enriched set."""
    base, rich, top = (
        np.array([row["loops"].get(name, np.nan) for row in group])
        for name in ("head/labels", "head/enriched", "propagate")
    )
    return f"{(rich - base).mean() / (top - base).mean():.0%}"


def against_softmax(rows: list[Row]) -> list[str]:
    """Return how much is accepted at the precision that a fixed softmax threshold has."""
    lines = [
        "| data | kind | labels a class | softmax of the labels-only model: precision, takes | fallow at that precision | softmax of the model "
        "that labels: precision, takes | fallow at that precision |",
        "|---|---|---|---|---|---|---|",
    ]
    for (kind, data, per_class), group in grouped(rows, "kind", "data", "per_class").items():
        cells = []
        for name in ("fixed_labels_only", "fixed"):
            some = [row[name] for row in group if row[name]["revealed"] is not None]
            takes, real, ours = (
                np.mean([one[k] for one in some]) for k in ("coverage", "revealed", "fallow")
            )
            cells += [f"{100 * real:.1f}, {100 * takes:.0f} %", f"{100 * ours:.0f} %"]
        lines.append(f"| {data} | {kind} | {per_class} | {' | '.join(cells)} |")
    return lines


def suggestions(rows: list[Row], shown: Callable[[list[float]], str]) -> list[str]:
    """Return accuracy after labeling what was suggested, against random choice, paired by draw."""
    lines = [
        "| start | data | draws | probe: suggested, random | difference | propagate: suggested, random | difference | classes seen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    titles = {"rounds": "2 a class, three rounds of 2 a class", "cold": "no label, one a class"}
    for (start, data), group in grouped(
        sorted(rows, key=lambda r: r["start"], reverse=True), "start", "data"
    ).items():
        cells = []
        for rung in ("probe", "propagate"):
            ours, theirs = ([row[how][rung] for row in group] for how in ("suggest", "random"))
            gains = [a - b for a, b in zip(ours, theirs, strict=True)]
            cells += [f"{100 * np.mean(ours):.1f}, {100 * np.mean(theirs):.1f}", shown(gains)]
        seen = [np.mean([row[how]["classes"] for row in group]) for how in ("suggest", "random")]
        lines.append(
            f"| {titles[start]} | {data} | {len(group)} | {' | '.join(cells)} | {seen[0]:.1f}, {seen[1]:.1f} |"
        )
    return lines


def pretraining(rows: list[Row]) -> list[str]:
    """Return what nearest neighbors and a probe say after each method's seconds."""
    lines = [
        "| method | seeds | nearest neighbors | linear probe | steps | images a second | findings |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = grouped(rows, "method")
    for (method,), group in sorted(groups.items(), key=lambda item: -np.mean([r["knn"] for r in item[1]])):
        knn, probe = (" ".join(f"{100 * row[key]:.1f}" for row in group) for key in ("knn", "probe"))
        steps = " ".join(str(row.get("steps", "-")) for row in group)
        speed = " ".join(f"{row['images_per_second']:.0f}" if "steps" in row else "-" for row in group)
        found = ", ".join(sorted({kind for row in group for kind in row.get("findings", ())})) or "-"
        lines.append(f"| {method} | {len(group)} | {knn} | {probe} | {steps} | {speed} | {found} |")
    return lines


def print_ways(shown: Callable[[list[float]], str]) -> None:
    """Print all tables of this module."""
    if rows := read_rows("label-final"):
        print(
            "## Automatic labels at a stated precision of 95 % (final split)\n", *labels(rows), "", sep="\n"
        )
        print("## The same against a softmax above 0.95\n", *against_softmax(rows), "", sep="\n")
    if rows := read_rows("suggest-final"):
        print("## What to label next (final split)\n", *suggestions(rows, shown), "", sep="\n")
    if rows := [
        row for row in read_rows("pretrain") if row["suite"] == "final" and row["asked"].endswith(" s")
    ]:
        asked = rows[0]["asked"]
        print(
            f"## Learning from 4,000 CIFAR-10 images alone, {asked} a method on one core, batches of {rows[0]['batch']} (final split)\n",
            *pretraining(rows),
            "",
            sep="\n",
        )
