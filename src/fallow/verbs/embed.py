"""``fallow embed``: images as vectors, for whatever comes next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.config import build
from fallow.config.gallery import GalleryConfig
from fallow.record import RunDir
from fallow.types import JsonObject
from fallow.verbs.one_go import whole_or_nothing
from fallow.verbs.runs import Show, check_show, fresh_run, own_backbone, source_of
from fallow.verbs.watch import Watching

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from fallow.models import Backbone
    from fallow.study.gallery import Gallery
    from fallow.study.probing import Named

_FEW = 5


class Embedded:
    """Images as vectors, and the folder that holds them.

    Attributes:
        path: The folder: ``embeddings.parquet``, ``embeddings.npy``, ``embed.json``, ``neighbors.html``, ``map.html``.
        gallery: Everything in it.
        pages: Pages that were written.
    """

    def __init__(self, path: Path, gallery: Gallery, pages: tuple[str, ...]) -> None:
        self.path, self.gallery, self.pages = path, gallery, pages

    @property
    def ids(self) -> tuple[str, ...]:
        """Images, relative to the data, in the order of the vectors."""
        return self.gallery.ids

    @property
    def labels(self) -> npt.NDArray[np.str_]:
        """Class of each image, an empty text where there is none."""
        return self.gallery.labels

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """Vectors, (n, dim) float32."""
        return self.gallery.vectors

    def to_json(self) -> JsonObject:
        """Return the content of ``embed.json`` and where everything is."""
        return {**self.gallery.to_json(), "run": str(self.path)}

    def screen(self) -> str:
        """Return the last screen for a terminal."""
        lines = [
            f" fallow  {self.gallery.data}   {counts_of(self.gallery)}",
            "",
            f" {sentence_of(self.gallery)}",
        ]
        lines += [f" {text}" for text in (match_of(self.gallery), *notes_of(self.gallery)) if text]
        names = ("embeddings.parquet", "embeddings.npy", *self.pages)
        lines += ["", *(f" {self.path / name}" for name in names)]
        lines += ["", f" look an image up:  fallow find IMAGE --index {self.path}"]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        return f"Embedded({str(self.path)!r}: {len(self.ids)} images, {self.vectors.shape[1]} numbers each)"


def embed(
    data: Any,
    *,
    model: str | Path | nn.Module | Backbone = "auto",
    unlabeled: Any = None,
    val: Any = None,
    test: Any = None,
    show: Show = "auto",
    **options: Any,
) -> Embedded:
    """Turn images into vectors: for your own code, for a look at what is near to what, and to look images up.

    Writes a table (path, split, label, vector), the vectors as an array, a page of images with their nearest ones and a map of all.
    A picture that is there twice counts once. `fallow find` looks other images up; with labels it knows how near is near enough.

    Args:
        data: Folder, CSV, arrays, or a torch ``Dataset``; labels are not needed.
        model: timm model name, ``pixels``, the folder of a run of ``fallow.pretrain`` or ``fallow.train``, or your own network: a
            module whose output for a float batch (n, 3, s, s) is the feature, fed ImageNet-normalized images of ``size`` (160).
        unlabeled: More images without labels, for arrays and data sets.
        val: Validation images with labels, likewise.
        test: Test images with labels, likewise.
        show: ``auto``: a bar on a terminal; ``lines``, ``nothing``: none.
        **options: Other fields of `fallow.config.gallery.GalleryConfig`: ``out``, ``size``, ``views``, ``index`` and so on.

    Returns:
        Ids, labels and vectors, and the folder.

    Raises:
        FallowError: Something given cannot be used; the message says what and what to do.
    """
    named = model if isinstance(model, str | Path) else None
    given = {**options, **({} if named is None else {"model": str(named)})}
    others = {"unlabeled": unlabeled, "val": val, "test": test}
    return embed_images(data, given, own=None if named is not None else model, others=others, show=show)


def embed_images(
    data: Any, given: Mapping[str, Any], *, own: Any = None, others: Mapping[str, Any], show: Show = "auto"
) -> Embedded:
    """Embed images as `embed` does, with all options as one mapping."""
    check_show(show)
    config = build(GalleryConfig, given, "the options")
    source = source_of(data, others)
    run = RunDir.create(config.out or fresh_run())
    with whole_or_nothing(run), Watching(enabled=show == "auto") as watching:
        from fallow.study.gallery import make_gallery

        shown = str(data) if isinstance(data, str | Path) else type(data).__name__
        made = make_gallery(source, shown, lambda name: named_model(name, own, config), config, watching)
        made.gallery.write(run.path)
        pages = _pages(run.path, made, config, watching)
    return Embedded(run.path, made.gallery, pages)


def named_model(name: str, own: Any, config: GalleryConfig) -> Named:
    """Return what embeds as it was asked for.

    Raises:
        ConfigError: It is no network.
    """
    from fallow.study.probing import Named

    network = own_backbone(own, config.size, "its name as text")
    if network is not None:
        return Named(network.name, own=network, offline=config.offline)
    return Named(name, weights=config.weights, offline=config.offline, seed=config.seed)


def _pages(folder: Path, made: Any, config: GalleryConfig, watching: Watching) -> tuple[str, ...]:
    from fallow.report.gallery_page import write_map_page, write_neighbors_page
    from fallow.study.gallery import INDEX, map_points, neighbor_rows, write_index

    gallery = made.gallery
    written = ["neighbors.html"]
    said = gallery.data, sentence_of(gallery), counts_of(gallery)
    rows, notes = neighbor_rows(made, watching), notes_of(gallery)
    write_neighbors_page(folder / written[0], *said, rest=match_of(gallery), notes=notes, rows=rows)
    if config.map != "none" and len(gallery.ids) > 2:
        points, laid_out_by = map_points(made, config.map, watching)
        write_map_page(folder / "map.html", *said, points, laid_out_by, len(gallery.ids))
        written.append("map.html")
    if config.index:
        write_index(folder / INDEX, gallery.vectors)
        written.append(INDEX)
    return tuple(written)


def counts_of(gallery: Gallery) -> str:
    """Return how many images there are, in a line."""
    from fallow.report.words import plural

    labeled = int((gallery.labels != "").sum())
    parts = [plural(len(gallery.ids), "image"), f"{labeled:,} labeled" if labeled else "no labels"]
    return " · ".join(parts)


def sentence_of(gallery: Gallery) -> str:
    """Say what was done."""
    from fallow.report.words import plural

    made = gallery.made_by
    name = Path(made.name).name if Path(made.name).is_absolute() else made.name
    sizes = " and ".join(dict.fromkeys(f"{size} px" for _, _, size, _ in made.parts))
    return f"{plural(len(gallery.ids), 'image')} as {made.dim:,} numbers each, by {name} at {sizes}."


def match_of(gallery: Gallery) -> str:
    """Say how near a match is; nothing without labels."""
    best = gallery.calibration.usually
    if best is None:
        return ""
    return (
        f"The nearest image within a cosine distance of {best.distance:.3f} is of the same class {100 * best.precision:.1f} % of "
        f"the time; {100 * best.recall:.1f} % of the labeled images have a match of their own class."
    )


def notes_of(gallery: Gallery) -> list[str]:
    """Return what a person should know: what could not be read."""
    from fallow.report.words import plural

    if not gallery.skipped:
        return []
    shown = list(gallery.skipped.items())[:_FEW]
    few = "; ".join(f"'{name}': {reason}" for name, reason in shown)
    more = len(gallery.skipped) - len(shown)
    end = f" and {more:,} more (embed.json)" if more else ""
    return [f"Left out, {plural(len(gallery.skipped), 'file')}: {few}{end}."]
