"""From a source to a gallery: read, embed, calibrate, and choose what its pages show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fallow.config import EmbedConfig
from fallow.config.gallery import GalleryConfig
from fallow.data import Audit, ImageReader, Source, audit, cache_dir, check_images
from fallow.models import unit_length
from fallow.report import MapPoint, choose_map_points, layout_method, map_layout, picture
from fallow.report.gallery_page import Picture, Row
from fallow.study.bank import SpaceBank
from fallow.study.gallery.calibrate import calibrate
from fallow.study.gallery.gallery import Gallery, MadeBy
from fallow.study.gallery.nearest import nearest
from fallow.study.plan import automatic_backbones
from fallow.study.probing.subject import Named, Part, Subject, trained_folder
from fallow.study.rung import ImageSet
from fallow.types import Progress

_QUERIES, _NEIGHBORS, _AMONG = 24, 5, 2000
"""Rows of the page of neighbors, pictures in each, and images that rows are chosen from."""
_SIDE, _MAP_SIDE = 128, 72


@dataclass(frozen=True)
class Made:
    """A gallery with what reads its images.

    Attributes:
        gallery: Images and vectors.
        reader: Reads an image by its id.
        audit: What was found in the data.
    """

    gallery: Gallery
    reader: ImageReader
    audit: Audit


def make_gallery(
    source: Source, named: str, model: Callable[[str], Named], config: GalleryConfig, progress: Progress
) -> Made:
    """Read images, embed them all and calibrate the distance of a match.

    Args:
        source: Where images come from.
        named: The data as the user named them.
        model: Returns what embeds, from its name; the name that was asked for, or of the backbone that suits the images.
        config: What was asked for.
        progress: Who watches.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    found = audit(source, progress=progress)
    check_images(found)
    asked = model(config.model if config.model != "auto" else _usual(found, config))
    subject = _subject(asked, found, config)
    table, reader = found.table, ImageReader(source, found.table, found.scale)
    ids = tuple(table.ids())
    images = ImageSet(ids, table.column("pixel_hash", ids), reader.read)
    vectors = subject.embed(images, "images", progress)
    known = table.labels()
    labels = np.array([known.get(i, "") for i in ids], dtype=np.str_)
    progress("calibrate", 0, 0)
    gallery = Gallery(
        ids,
        tuple(table.column("split", ids)),
        labels,
        vectors,
        _made_by(asked, subject, vectors.shape[1]),
        found.scale,
        calibrate(vectors, labels, config.seed),
        named,
        {item.id: item.reason for item in found.skipped},
        config.seed,
    )
    return Made(gallery, reader, found)


def _usual(found: Audit, config: GalleryConfig) -> str:
    bank = SpaceBank(EmbedConfig(weights=config.weights), cache_dir(), config.offline)
    return "+".join(automatic_backbones(found, bank)[0])


def _subject(asked: Named, found: Audit, config: GalleryConfig) -> Subject:
    size = config.size if isinstance(config.size, int) else None
    subject = asked.load().sized(found.short_side_median, size)
    if config.views == "none":
        return subject
    parts = tuple(Part(part.backbone, part.size, config.views) for part in subject.parts)
    return Subject(subject.name, subject.about, parts, subject.learned)


def _made_by(asked: Named, subject: Subject, dim: int) -> MadeBy:
    path = Path(asked.name)
    is_run = asked.own is None and (trained_folder(path) is not None or path.is_dir())
    parts = tuple(
        (p.backbone.name, p.backbone.weights_id, p.backbone.fit_size(p.size), p.views) for p in subject.parts
    )
    weights = None if asked.weights is None else str(asked.weights.resolve())
    return MadeBy(str(path.resolve()) if is_run else asked.name, weights, asked.own is not None, parts, dim)


def neighbor_rows(made: Made, progress: Progress) -> list[Row]:
    """Return images that lie far from each other, each with its nearest ones, as pictures."""
    gallery = made.gallery
    asking = spread_out(gallery.vectors, _QUERIES, gallery.seed)
    rows, distance = nearest(gallery.vectors[asking], gallery.vectors, _NEIGHBORS, own=asking)
    pictures: dict[int, Picture] = {}
    wanted = np.unique(np.concatenate([asking, rows.ravel()]))
    for number, row in enumerate(wanted.tolist()):
        progress("pictures", number, len(wanted))
        label = str(gallery.labels[row])
        pictures[row] = Picture(gallery.ids[row], label, picture(made.reader.read, gallery.ids[row], _SIDE))
    return [
        Row(pictures[one], tuple((pictures[r], float(d)) for r, d in zip(near, far, strict=True)))
        for one, near, far in zip(asking.tolist(), rows.tolist(), distance.tolist(), strict=True)
    ]


def spread_out(vectors: NDArray[np.floating], count: int, seed: int) -> NDArray[np.int64]:
    """Return rows that lie far from each other: each next one is the farthest from those before (Gonzalez 1985), among 2,000.

    Half way only: the farthest of all are the strangest. Each next one is drawn from the farther half by its squared distance, as
    k-means++ has it (Arthur and Vassilvitskii 2007).
    """
    rng = np.random.default_rng([seed, 5])
    among = np.sort(rng.permutation(len(vectors))[:_AMONG])
    z = unit_length(vectors[among])
    chosen = [int(rng.integers(len(z)))]
    apart = 1 - z @ z[chosen[0]]
    while len(chosen) < min(count, len(z)):
        weight = np.clip(apart, 0, None).astype(np.float64) ** 2
        weight[chosen] = 0
        if weight.sum() == 0:
            break
        chosen.append(int(rng.choice(len(z), p=weight / weight.sum())))
        apart = np.minimum(apart, 1 - z @ z[chosen[-1]])
    return np.asarray(among[np.array(chosen)], np.int64)


def map_points(
    made: Made, how: Literal["auto", "umap", "tsne"], progress: Progress
) -> tuple[list[MapPoint], str]:
    """Return places and pictures of up to 2,000 images, and by what they were laid out.

    Args:
        made: The gallery.
        how: ``umap``, ``tsne`` or ``auto``.
        progress: Who watches.
    """
    gallery = made.gallery
    labeled, rest = np.flatnonzero(gallery.labels != ""), np.flatnonzero(gallery.labels == "")
    rows = choose_map_points(labeled, rest, seed=gallery.seed)
    progress("map", 0, 0)
    laid_out_by = layout_method(how)
    places = map_layout(gallery.vectors[rows], gallery.seed, by=laid_out_by)
    points = []
    for number, (row, (x, y)) in enumerate(zip(rows.tolist(), places.tolist(), strict=True)):
        progress("pictures of the map", number, len(rows))
        label = str(gallery.labels[row]) or None
        image = picture(made.reader.read, gallery.ids[row], _MAP_SIDE)
        points.append(
            MapPoint(x, y, gallery.ids[row], "labeled" if label else "unlabeled", label, thumb=image)
        )
    return points, laid_out_by
