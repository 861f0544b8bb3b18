"""Embedded images as pages: images with their nearest ones, and a map of all of them; and the last screens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fallow.report import cluster_map
from fallow.report.data import MapPoint
from fallow.report.page import own_script, page_environment, page_style, script_json, write_page


@dataclass(frozen=True)
class Picture:
    """An image of the page; ``label`` is empty where there is none."""

    path: str
    label: str
    image: bytes | None


@dataclass(frozen=True)
class Row:
    """An image and its nearest ones with their cosine distances."""

    asked: Picture
    near: tuple[tuple[Picture, float], ...]


def write_neighbors_page(
    path: Path, data: str, sentence: str, counts: str, *, rest: str, notes: Sequence[str], rows: Sequence[Row]
) -> None:
    """Write the page of neighbors: self-contained, no script.

    Args:
        path: Where to write; replaced atomically.
        data: The data as the user named them.
        sentence: What was done, in a sentence.
        counts: How many images there are, of what kinds.
        rest: What was measured, in a sentence.
        notes: What a person should know.
        rows: What to show.

    Raises:
        RunError: The disk is full.
    """
    environment = page_environment()
    text = environment.get_template("neighbors.html.j2").render(
        data=data,
        sentence=sentence,
        rest=rest,
        counts=counts,
        notes=notes,
        rows=rows,
        style=page_style(environment),
    )
    write_page(path, text)


def write_map_page(
    path: Path,
    data: str,
    sentence: str,
    counts: str,
    points: Sequence[MapPoint],
    laid_out_by: str,
    images: int,
) -> None:
    """Write the map: self-contained, with a script of its own that shows the image under the pointer.

    Args:
        path: Where to write; replaced atomically.
        data: The data as the user named them.
        sentence: What was done, in a sentence.
        counts: How many images there are, of what kinds.
        points: Up to 2,000 are drawn.
        laid_out_by: Name of the method.
        images: How many there are in all.

    Raises:
        RunError: The disk is full.
    """
    environment = page_environment()
    script, script_hash = own_script(environment, "map.js")
    classes = sorted({p.label for p in points if p.label is not None})
    drawing = cluster_map.cluster_map(points, classes, ("Images", "Images"), same=True)
    text = environment.get_template("gallery_map.html.j2").render(
        data=data,
        sentence=sentence,
        counts=counts,
        drawing=drawing,
        laid_out_by=laid_out_by,
        left_out=f"{len(points):,} of {images:,} images are drawn." if images > len(points) else "",
        map_json=None if drawing is None else script_json(drawing.json),
        map_width=cluster_map.WIDTH,
        map_height=cluster_map.HEIGHT,
        style=page_style(environment),
        script=script,
        script_hash=script_hash,
    )
    write_page(path, text)
