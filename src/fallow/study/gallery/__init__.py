"""Images as vectors that are looked up: embed a folder, find what is near to an image, and say when nothing is."""

from fallow.study.gallery.ask import Near, ask, subject_of, threshold_of
from fallow.study.gallery.calibrate import Calibration, Threshold
from fallow.study.gallery.gallery import Gallery
from fallow.study.gallery.job import make_gallery, map_points, neighbor_rows
from fallow.study.gallery.nearest import INDEX, write_index

__all__ = [
    "INDEX",
    "Calibration",
    "Gallery",
    "Near",
    "Threshold",
    "ask",
    "make_gallery",
    "map_points",
    "neighbor_rows",
    "subject_of",
    "threshold_of",
    "write_index",
]
