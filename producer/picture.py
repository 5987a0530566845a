"""What a look at an image's header says: format, size in pixels, and a thumbnail for the mapping.

Never more than a remark: Pillow reads only formats on a list, under a limit of pixels, and whatever it says or
however it fails, the bytes are stored all the same.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from PIL import Image, ImageOps

from common.vault.mapping import MAX_THUMBNAIL, UNKNOWN_MEDIA_TYPE

log = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "MPO", "PPM", "ICO", "AVIF")
_MAX_PIXELS = 100_000_000  # larger ones get no thumbnail: decoding them takes too much memory
_THUMBNAIL_EDGES = (160, 96, 48)  # pixels; the first that fits into the bytes allowed
_QUALITY = 60


@dataclass(frozen=True)
class Picture:
    media_type: str = UNKNOWN_MEDIA_TYPE
    width: Optional[int] = None
    height: Optional[int] = None
    thumbnail: Optional[bytes] = None

    @property
    def is_image(self) -> bool:
        return self.width is not None


def look_at(content: Union[bytes, Path], thumbnail_limit: int = MAX_THUMBNAIL) -> Picture:
    """What can be said of an image's bytes, or of the file that has them; an empty Picture where nothing can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_MAX_PIXELS` is what decides here
            source = io.BytesIO(content) if isinstance(content, bytes) else content
            with Image.open(source, formats=FORMATS) as image:
                media_type = Image.MIME.get(image.format or "", UNKNOWN_MEDIA_TYPE)
                width, height = image.size
                small = _thumbnail(image, thumbnail_limit) if width * height <= _MAX_PIXELS else None
                return Picture(media_type, width, height, small)
    except Exception as error:  # Pillow's readers raise anything that a hostile file makes them raise
        log.debug("not read as an image: %s", type(error).__name__)
        return Picture()


def _thumbnail(image: Image.Image, limit: int) -> Optional[bytes]:
    """A WebP of at most `limit` bytes, upright as the camera was; None where that cannot be made."""
    try:
        for edge in _THUMBNAIL_EDGES:
            image.draft("RGB", (2 * edge, 2 * edge))  # lets a JPEG be decoded small
            small = ImageOps.exif_transpose(image)
            small.thumbnail((edge, edge))
            out = io.BytesIO()
            small.convert("RGBA" if "A" in small.getbands() else "RGB").save(out, "WEBP", quality=_QUALITY)
            if out.tell() <= limit:
                return out.getvalue()
    except Exception as error:  # as above: a truncated or hostile image costs its thumbnail and nothing else
        log.debug("no thumbnail: %s", type(error).__name__)
    return None
