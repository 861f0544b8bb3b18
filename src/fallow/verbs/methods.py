"""``fallow methods``: what there is, and when it suits."""

from __future__ import annotations

from fallow.verbs.said import Said


def methods_table() -> Said:
    """List what can be learned from unlabeled images: every method, its paper, and when it is a good choice."""
    from fallow.methods import registry
    from fallow.study.rungs import RUNGS

    wide = max(len(name) for name in (*RUNGS, *(info.name for info in registry())))
    lines = ["Rungs of the ladder, in the order in which `fallow train` tries them:", ""]
    for rung in RUNGS.values():
        lines.append(f"  {rung.info.name:<{wide}} {rung.info.title}")
    lines += ["", "Methods:", ""]
    for info in registry():
        lines += [
            f"  {info.name:<{wide}} {info.title}",
            f"  {'':<{wide}} suits: {info.suits}",
            f"  {'':<{wide}} needs: {', '.join(info.needs)}; paper: {info.paper}",
            "",
        ]
    data = {
        "rungs": [{"name": r.info.name, "title": r.info.title} for r in RUNGS.values()],
        "methods": [
            {
                "name": i.name,
                "title": i.title,
                "family": i.family,
                "paper": i.paper,
                "needs": list(i.needs),
                "suits": i.suits,
                "cost": i.cost,
            }
            for i in registry()
        ],
    }
    return Said("\n".join(lines), data)  # type: ignore[arg-type]
