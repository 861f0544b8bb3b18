"""The report: one HTML page that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.record.rundir import write_bytes
from fallow.report import audit_view, cluster_map, explain, view
from fallow.report.data import ReportData
from fallow.report.words import counts_line, percent

if TYPE_CHECKING:
    from jinja2 import Environment

_GRID = 48  # pictures in a grid
_CONFUSIONS = 12


def write_report(path: Path, data: ReportData) -> None:
    """Write the page: self-contained, under 10 MB, readable on a phone, in the dark and without JavaScript.

    Names of files and classes may hold anything: they are escaped, and a content security policy lets the
    page run no script but its own and load nothing at all.

    Args:
        path: Where to write; replaced atomically.
        data: What to show.

    Raises:
        RunError: The disk is full.
    """
    write_page(path, render(data))


def write_page(path: Path, text: str) -> None:
    """Write a page, replaced atomically.

    Raises:
        RunError: The disk is full.
    """
    write_bytes(path, text.encode("utf-8", "replace"))  # file names may hold what is not Unicode


def render(data: ReportData) -> str:
    """Return the page as text."""
    result = data.result
    environment = page_environment()
    script, script_hash = own_script(environment, "map.js")
    same = result.chosen.rung == result.labels_only.rung
    drawing = cluster_map.cluster_map(data.map_points, data.classes, data.map_names, same)
    strengths, reach = view.reach_table(data.reach)
    headline, rest = explain.first_sentence(result.verdict)
    splits, class_rows = audit_view.class_counts(data.audit, data.classes)
    return environment.get_template("report.html.j2").render(
        data=data,
        result=result,
        counts=counts_line(result.counts),
        headline=headline,
        rest=rest,
        tiles=view.tiles(data),
        steps=view.steps(result),
        scale=view.scale_of(result),
        glossary=explain.glossary(data),
        why_no_held_out=view.why_no_held_out(result),
        drawing=drawing,
        map_json=None if drawing is None else script_json(drawing.json),
        map_width=cluster_map.WIDTH,
        map_height=cluster_map.HEIGHT,
        strengths=strengths,
        reach=reach,
        matrix=view.matrix_rows(data.confusion, data.classes),
        confusions=view.confusions(data.confusion, data.classes, _CONFUSIONS),
        misclassified=data.misclassified[:_GRID],
        surest=data.surest[:_GRID],
        doubtful=data.doubtful[:_GRID],
        findings=audit_view.findings(data.audit),
        open_entries=audit_view.OPEN,
        splits=splits,
        class_rows=class_rows,
        style=own_file(environment, "style.css"),
        script=script,
        script_hash=script_hash,
    )


def script_json(value: Any) -> str:
    """Return JSON that may stand in a script element: nothing in it can end the element or the line."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_environment() -> Environment:
    """Return what renders templates: everything escaped, and what a template asks for must be there."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fallow.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda value: "–" if value is None else percent(value),
        "glue": lambda text: text.replace(" %", "\u00a0%").replace(" ± ", "\u00a0±\u00a0"),
        "flat": view.flat,
        "evidence": lambda found: view.flat({key.replace("_", " "): value for key, value in found.items()}),
        "webp": lambda image: "data:image/webp;base64," + base64.b64encode(image).decode("ascii"),
    }
    return environment


def own_file(environment: Environment, name: str) -> str:
    """Return a file of our own as it is."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0].strip()


def own_script(environment: Environment, name: str) -> tuple[str, str]:
    """Return a script of our own and the hash by which a page's policy lets it run."""
    script = own_file(environment, name)
    return script, base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def page_style(environment: Environment) -> str:
    """Return the style of the pages beside the report."""
    return own_file(environment, "style.css") + "\n" + own_file(environment, "pages.css")
