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

# MPO, several JPEGs in one file, is read by the JPEG reader; Pillow fails at names that have no reader of their own.
# AVIF is such a one before Pillow 11.3, so it stands last.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO", "AVIF")
_MAX_DECODED = 48 << 20  # bytes that decoding for a thumbnail may take; a JPEG is decoded at an eighth of its edges
_SIGNATURES = (  # offset, bytes, media type: an image that Pillow cannot read is an image all the same
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (4, b"ftyphei", "image/heic"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypavif", "image/avif"),
    (0, b"\0\0\0\x0cjP  ", "image/jp2"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
)
_SIGNATURE_BYTES = 16
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
        return self.media_type != UNKNOWN_MEDIA_TYPE


def look_at(content: Union[bytes, Path], thumbnail_limit: int = MAX_THUMBNAIL) -> Picture:
    """What can be said of an image's bytes, or of the file that has them; an empty Picture where nothing can.

    Takes up to 48 MiB, so it is to be called by one thread at a time.
    """
    # Pillow's own limit would make a photograph of 200 megapixels no image at all; ours is for what is decoded.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage in what is only looked at
            source = io.BytesIO(content) if isinstance(content, bytes) else content
            with Image.open(source, formats=FORMATS) as image:
                media_type = Image.MIME.get(image.format or "", UNKNOWN_MEDIA_TYPE)
                width, height = image.size
                return Picture(media_type, width, height, _thumbnail(image, thumbnail_limit))
    except Exception as error:  # Pillow's readers raise anything that a hostile file makes them raise
        log.debug("not read as an image: %s", type(error).__name__)
        return Picture(_media_type_by_signature(content))


def _media_type_by_signature(content: Union[bytes, Path]) -> str:
    """What the first bytes say that it is."""
    try:
        if isinstance(content, bytes):
            start = content[:_SIGNATURE_BYTES]
        else:
            with content.open("rb") as file:
                start = file.read(_SIGNATURE_BYTES)
    except OSError:
        return UNKNOWN_MEDIA_TYPE
    matches = (media for offset, signature, media in _SIGNATURES if start[offset:].startswith(signature))
    return next(matches, UNKNOWN_MEDIA_TYPE)


def _thumbnail(image: Image.Image, limit: int) -> Optional[bytes]:
    """A WebP of at most `limit` bytes, upright as the camera was; None where that cannot be made."""
    try:
        if image.info.get("progressive") and _decoded_bytes(image) > _MAX_DECODED:
            return None  # a progressive JPEG is kept whole while it is decoded, however small the result
        largest = _THUMBNAIL_EDGES[0]
        image.draft("RGB", (2 * largest, 2 * largest))  # only a JPEG can: it is then decoded small
        if _decoded_bytes(image) > _MAX_DECODED:
            return None
        image.thumbnail((2 * largest, 2 * largest))
        small = ImageOps.exif_transpose(image)
        small = small.convert("RGBA" if "A" in small.getbands() or "transparency" in small.info else "RGB")
        for edge in _THUMBNAIL_EDGES:
            small.thumbnail((edge, edge))
            out = io.BytesIO()
            small.save(out, "WEBP", quality=_QUALITY)
            if out.tell() <= limit:
                return out.getvalue()
    except Exception as error:  # as above: a truncated or hostile image costs its thumbnail and nothing else
        log.debug("no thumbnail: %s", type(error).__name__)
    return None


def _decoded_bytes(image: Image.Image) -> int:
    """Pillow keeps 4 bytes a pixel, and to scale an image with transparency a second copy of it."""
    copies = 2 if "A" in image.getbands() else 1
    return 4 * image.width * image.height * copies
