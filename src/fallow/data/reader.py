"""Pixels by id."""

from __future__ import annotations

import io

from PIL import Image

from fallow.data.images import Pixels, PixelScale, decode
from fallow.data.sources.base import Source
from fallow.data.table import ImageTable


class ImageReader:
    """Reads images of a table; safe to use from several threads.

    Args:
        source: Where the bytes come from.
        table: Which uri an id has. Ids it lacks (skipped images, twins) are taken as their own uri.
        scale: For images with more than 8 bits; the audit's.
    """

    def __init__(self, source: Source, table: ImageTable, scale: PixelScale | None = None) -> None:
        self.source = source
        self.scale = scale
        ids = table.ids()
        self._uri = {i: uri for i, uri in zip(ids, table.column("uri", ids), strict=True) if uri != i}

    def read(self, id_: str) -> Pixels:
        """Return the image as uint8 (height, width, 3) RGB.

        Raises:
            ImageError: It cannot be read (any more).
        """
        return decode(self.source.open(self._uri.get(id_, id_)), id_, self.scale)

    def thumbnail(self, id_: str, side: int) -> bytes:
        """Return the image as WebP, its longer side at most ``side`` pixels, for reports.

        Raises:
            ImageError: As `read`.
        """
        image = Image.fromarray(self.read(id_))
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
        content = io.BytesIO()
        image.save(content, "WEBP", quality=80)
        return content.getvalue()
