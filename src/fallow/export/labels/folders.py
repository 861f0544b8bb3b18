"""Class folders, as torchvision's ``ImageFolder``, Ultralytics' classification and `fallow train` read them."""

from __future__ import annotations

from pathlib import Path

from fallow.export.labels.base import Files, LabelSet, Shelf, folder_names, whole_folder


def write_folders(labels: LabelSet, out: Path, files: Files = "link") -> Path:
    """Write ``folders/train/<class>/`` (labels given and accepted), ``val/<class>/`` and ``test/<class>/`` as they were given.

    What was not accepted lies in ``unlabeled/`` (doubtful) and ``foreign/``.
    """
    with whole_folder(out / "folders") as made:
        shelf = Shelf(labels, made, out / "folders", files)
        named = folder_names([*labels.pool.classes, *(one.label for one in labels.given)])
        for id_, label, _ in labels.learned_from():
            shelf.put(id_, "train", named[label])
        for one in labels.given:
            if one.split != "train":
                shelf.put(one.id, one.split, named[one.label])
        for row in labels.pool.where("doubtful"):
            shelf.put(labels.pool.ids[row], "unlabeled")
        for row in labels.pool.where("foreign"):
            shelf.put(labels.pool.ids[row], "foreign")
    return out / "folders"
