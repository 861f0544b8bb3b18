"""Where images come from: sources, decoding, the audit, folds."""

from fallow.data.ahead import cores, default_workers, in_order
from fallow.data.audit import Audit, audit
from fallow.data.cache import cache_dir
from fallow.data.checks import check_extra, check_images, check_trainable, limit_validation, several_in_one
from fallow.data.clean import Conflict, Leak, TwinGroup
from fallow.data.folds import assign_folds, default_folds, stratified
from fallow.data.images import ImageError, PixelScale, decode, looks_like_image
from fallow.data.pixels import read_pixels
from fallow.data.reader import ImageReader
from fallow.data.scan import byte_hash
from fallow.data.sources import (
    SOURCE_SCHEMA,
    ArraySource,
    DatasetSource,
    FolderSource,
    Match,
    Skipped,
    Source,
    TableFileSource,
    WithExtra,
    open_source,
    printable,
    read_image_file,
)
from fallow.data.table import ImageTable

__all__ = [
    "SOURCE_SCHEMA",
    "ArraySource",
    "Audit",
    "Conflict",
    "DatasetSource",
    "FolderSource",
    "ImageError",
    "ImageReader",
    "ImageTable",
    "Leak",
    "Match",
    "PixelScale",
    "Skipped",
    "Source",
    "TableFileSource",
    "TwinGroup",
    "WithExtra",
    "assign_folds",
    "audit",
    "byte_hash",
    "cache_dir",
    "check_extra",
    "check_images",
    "check_trainable",
    "cores",
    "decode",
    "default_folds",
    "default_workers",
    "in_order",
    "limit_validation",
    "looks_like_image",
    "open_source",
    "printable",
    "read_image_file",
    "read_pixels",
    "several_in_one",
    "stratified",
]
